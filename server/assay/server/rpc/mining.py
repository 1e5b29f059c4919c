"""The Mining service."""

from collections.abc import Generator

from assay.server.rpc.calls import BaseServicer, bind
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.mining import (
    mine_message,
    preset_message,
    score_message,
    strategy_message,
    to_mine_spec,
    to_score_spec,
)
from assay.server.rpc.convert.tasks import to_kind
from assay.server.rpc.remembering import small_mining
from assay.v1 import mining_pb2


class MiningServicer(BaseServicer):
    """Translates between the wire and the core's mining."""

    def ListStrategies(self, request: mining_pb2.ListStrategiesRequest) -> mining_pb2.ListStrategiesResponse:
        page = paging.page(request, "", default=paging.MAX_PAGE)
        rest = [view for view in self.core.mining.strategies() if view.name > page.after]
        messages, token = page.fill(rest, lambda view: view.name, strategy_message, self.reply_bytes)
        return mining_pb2.ListStrategiesResponse(strategies=messages, next_page_token=token)

    def ListPresets(self, request: mining_pb2.ListPresetsRequest) -> mining_pb2.ListPresetsResponse:
        page = paging.page(request, "", default=paging.MAX_PAGE)
        rest = [view for view in self.core.mining.presets(to_kind(request.task)) if view.name > page.after]
        messages, token = page.fill(rest, lambda view: view.name, preset_message, self.reply_bytes)
        return mining_pb2.ListPresetsResponse(presets=messages, next_page_token=token)

    def Score(self, request: mining_pb2.ScoreRequest) -> Generator[mining_pb2.ScoreResponse, None, None]:
        pool_id = names.parse_pool(request.pool)
        stream = self.core.mining.score(pool_id, to_score_spec(request))
        for index, (ids, scores_N) in enumerate(stream.chunks):
            yield score_message(pool_id, ids, scores_N, None if index else stream.provenance)

    def Mine(self, request: mining_pb2.MineRequest) -> mining_pb2.MineResponse:
        pool_id = names.parse_pool(request.pool)
        reply = self.reply("Mine", request, bind(mine_message, pool_id), small_mining)
        self.core.mining.mine(pool_id, to_mine_spec(request), reply.key)
        return reply.message

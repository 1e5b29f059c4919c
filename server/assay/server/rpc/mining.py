"""The Mining service."""

from collections.abc import Generator

from assay.server.rpc.calls import BaseServicer, bind, streamed, unary
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.mining import (
    mine_message,
    preset_message,
    score_message,
    strategy_message,
    to_mine_spec,
    to_score_spec,
)
from assay.server.rpc.remembering import small_mining, whole_mining
from assay.v1 import mining_pb2, mining_pb2_grpc


class MiningServicer(BaseServicer, mining_pb2_grpc.MiningServicer):
    """Translates between the wire and the core's mining."""

    @unary("io", mining_pb2.ListStrategiesResponse)
    def ListStrategies(self, request: mining_pb2.ListStrategiesRequest) -> mining_pb2.ListStrategiesResponse:
        page = paging.page(request, "", default=paging.MAX_PAGE)
        strategies, presets = self.core.mining.strategies()
        rest = sorted((view for view in strategies if view.name > page.after), key=lambda view: view.name)
        shown, token = page.cut(rest, lambda view: view.name)
        return mining_pb2.ListStrategiesResponse(
            strategies=map(strategy_message, shown),
            presets=map(preset_message, sorted(presets, key=lambda view: view.name) if not page.after else ()),
            next_page_token=token,
        )

    @streamed("compute")
    def Score(self, request: mining_pb2.ScoreRequest) -> Generator[mining_pb2.ScoreResponse, None, None]:
        pool_id = names.parse_pool(request.pool)
        stream = self.core.mining.score(pool_id, to_score_spec(request))
        for index, (ids, scores_N) in enumerate(stream.chunks):
            yield score_message(pool_id, ids, scores_N, None if index else stream.provenance)

    @unary("compute", mining_pb2.MineResponse, whole_mining)
    def Mine(self, request: mining_pb2.MineRequest) -> mining_pb2.MineResponse:
        pool_id = names.parse_pool(request.pool)
        reply = self.reply("Mine", request, bind(mine_message, pool_id), small_mining)
        self.core.mining.mine(pool_id, to_mine_spec(request), reply.key)
        return reply.message

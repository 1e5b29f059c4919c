"""Bytes that are no message, messages that are too large, and a strategy whose needs no single model meets."""

import os
from pathlib import Path

import grpc
import numpy as np
import pytest

from assay.client import Classification, Plan, scorer
from assay.client.errors import ResourceExhausted
from assay.client.testing import start_server
from assay.v1 import pools_pb2
from tests.e2e.corpus import CLASSES
from tests.e2e.wire import refusal

GET_POOL = "/assay.v1.Pools/GetPool"
MIB = 1 << 20
# A third party's package: one scorer of committees, found by its entry point.
DISAGREEMENT = '''
import numpy as np

from assay.strategies import Need, NoParams


class Disagreement:
    """Variance of the members' probabilities."""

    name = "disagreement"
    summary = "Variance over the members of a committee."
    needs = frozenset({Need.MEMBER_PROBS})
    params = NoParams

    def score(self, block, params):
        return block.member_probs_KNC.var(axis=0).sum(axis=1).astype(np.float32)


disagreement = Disagreement()
'''


def install(folder: Path) -> None:
    """The package, as an installer would leave it in a folder of the path."""
    about = folder / "disagreement-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "disagreement.py").write_text(DISAGREEMENT)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: disagreement\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[assay.strategies]\ndisagreement = disagreement:disagreement\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that takes small messages, with a third party's strategy beside it."""
    site = tmp_path_factory.mktemp("site")
    install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))))
        with start_server(tmp_path_factory.mktemp("assay"), max_message_bytes=MIB, log_level="error") as server:
            yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


GARBAGE = [b"\xff\xff\xff\xff", b"\x0a\x7fshort", b"\x0a\x02\xff\xfe", bytes(range(1, 200))]


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.target) as channel:
        yield channel


def raw(make, method):
    """A call that sends and returns bytes as they are."""
    return make(method, lambda data: data, lambda data: data)


@pytest.mark.parametrize("data", GARBAGE)
def test_bytes_that_are_no_message_are_refused(channel, client, pool, data):
    header = pools_pb2.UploadSamplesRequest(
        header=pools_pb2.UploadSamplesHeader(parent=f"pools/{pool}")
    ).SerializeToString()
    client.create_pool(pool)
    before = client.get_pool(pool)
    for call in (
        lambda: raw(channel.unary_unary, GET_POOL)(data),
        lambda: list(raw(channel.unary_stream, "/assay.v1.Mining/Score")(data)),
        lambda: raw(channel.stream_unary, "/assay.v1.Pools/UploadSamples")(iter([header, data])),
        lambda: raw(channel.stream_unary, "/assay.v1.Models/UploadBackbone")(iter([data])),
    ):
        told = refusal(call)
        assert (told.code, told.reason, told.domain) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
            "assay",
        )
    assert client.get_pool(pool) == before
    client.delete_pool(pool)


def test_fields_of_a_newer_client_are_passed_over(channel, client, pool):
    client.create_pool(pool)
    request = pools_pb2.GetPoolRequest(name=f"pools/{pool}").SerializeToString()
    newer = request + b"\xfa\x3e\x04\x00\x01\x02\x03" + b"\x98\x3f\x2a"  # fields 1007 (bytes) and 1011 (a number)
    assert pools_pb2.Pool.FromString(raw(channel.unary_unary, GET_POOL)(newer)).name == f"pools/{pool}"


def test_a_message_above_the_limit_is_refused_and_smaller_ones_go_through(client, pool):
    client.create_pool(pool)
    ids = [f"s{index}" for index in range(4000)]
    vectors_ND = np.ones((4000, 100), np.float32)
    with pytest.raises(ResourceExhausted):
        client.add_samples(pool, ids, embeddings=vectors_ND)
    assert client.get_pool(pool).counts.total == 0
    assert client.add_samples(pool, ids, embeddings=vectors_ND, batch_size=1000).added == 4000


def test_a_committee_is_needed_where_members_are_compared(client, corpus, pool):
    plan = Plan(scores=[scorer("disagreement")])
    assert "disagreement" in {entry.name for entry in client.list_strategies()}
    client.create_pool(pool, task=Classification(CLASSES))
    client.add_samples(pool, corpus.ids, embeddings=corpus.embeddings_ND)
    corpus.label(client, pool, corpus.ids[:40])
    client.train_head(pool).result(timeout=60)
    before = client.get_pool(pool)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what it is, is asserted in full
        client.mine(pool, 5, plan)
    assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "MODEL_NOT_STOCHASTIC")
    assert client.get_pool(pool) == before
    committee = client.train_head(pool, members=4).result(timeout=60)
    mined = client.mine(pool, 5, plan)
    assert mined.provenance.head == committee.name
    scores = [pick.score for pick in mined.picks]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0

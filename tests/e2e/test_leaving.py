"""A client that leaves a call, in whatever way and at whatever moment, cannot touch the server."""

import os
import subprocess
import sys

import grpc
import numpy as np
import pytest

from assay.client.testing import start_server
from assay.v1 import annotations_pb2, labeling_pb2, mining_pb2, pools_pb2
from tests.e2e.leaver import PLAN, POOL, POSITIONS, SAMPLES, matrix, methods
from tests.e2e.wire import Stubs
from tests.rpc.stubs import create_request, said

DEADLINE_S = 0.2
STREAMS = [method for method in methods() if method.streams]
SINGLE = [method for method in methods() if not method.streams]
UNLABELED = 1000
LEAVERS = 5  # of each kind: a race is not lost each time


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("assay"), log_level="warning") as server:
        with grpc.insecure_channel(server.target) as channel:
            _fill(Stubs(channel))
        yield server
        with grpc.insecure_channel(server.target) as channel:
            assert _exported(Stubs(channel)) == SAMPLES - UNLABELED


def _fill(stubs):
    stubs.pools.CreatePool(create_request(pool_id="left", class_names=["a", "b"]))
    ids = [f"s{index}" for index in range(SAMPLES)]
    values_N = np.random.default_rng(0).random(SAMPLES)
    values_N2 = matrix(np.stack([values_N, 1 - values_N], axis=1))
    stubs.add(POOL, pools_pb2.SampleBatch(ids=ids, embeddings=values_N2, predictions=values_N2))
    labels = said(dict.fromkeys(ids[UNLABELED:], "a"))
    stubs.annotations.Annotate(annotations_pb2.AnnotateRequest(parent=POOL, worker="ann", annotations=labels))


@pytest.fixture
def channel(server):
    """A connection of the leaver's own. Afterwards the server must still be the same process, serve all that was left,
    and have nothing to complain of."""
    pid = server.pid
    with grpc.insecure_channel(server.target) as channel:
        yield channel
    with grpc.insecure_channel(server.target) as channel:
        _serves(Stubs(channel))
    assert server.pid == pid
    os.kill(pid, 0)
    assert "Traceback" not in server.log.read_text()


def _serves(stubs):
    scores = stubs.mining.Score(mining_pb2.ScoreRequest(pool=POOL, plan=PLAN, chunk_size=500))
    assert sum(len(chunk.ids) for chunk in scores) > 0
    assert stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL)).counts.total >= SAMPLES


def _exported(stubs):
    parts = stubs.labeling.ExportLabels(labeling_pb2.ExportLabelsRequest(parent=POOL))
    return sum(part.chunk.count(b"\n") for part in parts)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_by_cancelling_a_stream(channel, method, position):
    for _ in range(LEAVERS):
        method.start(channel, position).cancel()


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("method", STREAMS, ids=lambda method: method.name)
def test_by_the_deadline_of_a_stream(channel, method, position):
    held = [method.start(channel, position, timeout=DEADLINE_S) for _ in range(LEAVERS)]
    for call in held:
        call.code()


@pytest.mark.parametrize("method", SINGLE, ids=lambda method: method.name)
def test_by_cancelling_or_the_deadline_of_a_single_reply(channel, method):
    for timeout in (0.0005, 0.001, 0.002, 0.004, 0.008):
        method.start(channel, 0).cancel()
        method.start(channel, 0, timeout=timeout).code()


@pytest.mark.parametrize("position", POSITIONS)
def test_by_being_killed_in_all_streams_at_once(channel, server, position):
    command = [sys.executable, "-m", "tests.e2e.leaver", server.target, str(position)]
    leaver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert leaver.stdout.readline() == f"holding {len(STREAMS)} streams\n"
    finally:
        leaver.kill()
        leaver.communicate()

"""SIGTERM ends the server in its time, whatever it does."""

import signal
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest

from assay.client.testing import start_server
from assay.v1 import labeling_pb2, mining_pb2, models_pb2, pools_pb2
from tests.e2e.leaver import matrix
from tests.e2e.wire import Stubs
from tests.rpc.stubs import create_request

POOL = "pools/busy"
DRAIN_S = 1.0
PATIENCE_S = 60.0  # then it is killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data directory with enough samples to be busy with for minutes."""
    folder = tmp_path_factory.mktemp("assay")
    with start_server(folder, log_level="warning") as server, grpc.insecure_channel(server.target) as channel:
        stubs = Stubs(channel)
        stubs.pools.CreatePool(create_request(pool_id="busy", class_names=["a", "b"]))
        vectors_ND = np.random.default_rng(0).normal(size=(20_000, 64))
        ids = [f"s{index}" for index in range(len(vectors_ND))]
        stubs.add(POOL, pools_pb2.SampleBatch(ids=ids, embeddings=matrix(vectors_ND)))
    return folder


class Hanging:
    """Requests of a stream: a first one, and no more until a test is over."""

    over = threading.Event()

    def __init__(self, *first):
        self._first = list(first)

    def __iter__(self):
        return self

    def __next__(self):
        if not self._first:
            Hanging.over.wait(PATIENCE_S)
            raise StopIteration
        return self._first.pop(0)


def selection_that_was_left(stubs):
    """Takes minutes, and nobody waits for it any more."""
    request = mining_pb2.MineRequest(pool=POOL, size=4000)
    request.plan.select.strategy = "facility_location"
    assert stubs.mining.Mine.future(request, timeout=1.0).code() is grpc.StatusCode.DEADLINE_EXCEEDED


def selections_that_are_waited_for(stubs):
    """Take minutes, and somebody waits for them."""
    request = labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=4000)
    request.plan.select.strategy = "facility_location"
    return [stubs.labeling.NextBatch.future(request) for _ in range(8)]


def samples_that_hang(stubs):
    """A stream of samples of which nothing comes after its header."""
    header = pools_pb2.UploadSamplesHeader(parent=POOL)
    return stubs.pools.UploadSamples.future(Hanging(pools_pb2.UploadSamplesRequest(header=header)))


def upload_that_hangs(stubs):
    """A model of which nothing comes after its header."""
    header = models_pb2.UploadBackboneHeader(parent=POOL, size_bytes=100)
    return stubs.models.UploadBackbone.future(Hanging(models_pb2.UploadBackboneRequest(header=header)))


BUSY = [selection_that_was_left, selections_that_are_waited_for, samples_that_hang, upload_that_hangs]


@pytest.mark.parametrize("busy", BUSY, ids=lambda busy: busy.__name__)
def test_it_ends_in_order_and_is_not_stopped_by_force(folder, busy):
    with start_server(folder, drain_seconds=DRAIN_S, log_level="warning") as server:
        log_before = len(server.log.read_text())
        with grpc.insecure_channel(server.target) as channel:
            calls = busy(Stubs(channel))
            # It answers after the others, so they have reached it.
            Stubs(channel).pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))
            assert server.stop(PATIENCE_S) == 0
            del calls
        Hanging.over.set()
        assert "Traceback" not in server.log.read_text()[log_before:]


def _process(body):
    script = f"""
import re, sys, threading, time
from assay.server.app.deadline import end_after
def stuck():
    {body}
end_after(0.2)
threading.Thread(target=stuck).start()
"""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_a_thread_that_would_not_stop_is_named_and_left():
    done = _process("threading.Event().wait()")
    assert done.returncode == 4
    assert "stopped by force" in done.stderr + done.stdout
    assert "in stuck" in done.stderr


def test_a_library_that_holds_the_interpreter_does_not_hold_the_process():
    done = _process("re.match('(a+)+b', 'a' * 64)")
    assert done.returncode in (4, -signal.SIGALRM)


def test_a_process_that_ends_by_itself_is_not_touched():
    assert _process("return").returncode == 0

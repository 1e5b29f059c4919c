"""`assay serve` as a process: address, lock, signals, exit codes."""

import contextlib
import json
import signal
import socket
import subprocess
import sys

import grpc
import pytest

from assay.server.rpc.auth import ApiKeys, Role
from assay.v1 import labeling_pb2, labeling_pb2_grpc, pools_pb2, pools_pb2_grpc
from tests.rpc.stubs import batch, create_request, embeddings, stream

SERVE = "import typer; from assay.server.app.command import serve; typer.run(serve)"


@pytest.fixture
def launch(tmp_path):
    processes = []

    def launched(*flags, under=()):
        command = [*under, sys.executable, "-c", SERVE, "--data-dir", str(tmp_path / "data"), *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield launched
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _events_until(process, name):
    events = []
    for line in process.stderr:
        events.append(json.loads(line))
        if events[-1]["event"] == name:
            return events
    raise AssertionError(f"the server ended before {name!r}: {events}")


def test_a_server_serves_keeps_others_out_and_drains(launch, tmp_path):
    port_file = tmp_path / "port"
    flags = ("--listen", "127.0.0.1:0", "--port-file", str(port_file), "--log-format", "json")
    first = launch(*flags)
    serving = _events_until(first, "serving")[-1]
    assert serving["data_dir"] == str(tmp_path / "data")
    assert serving["pools"] == 0

    second = launch("--listen", "127.0.0.1:0")
    _, said = second.communicate(timeout=60)
    assert second.returncode == 3
    assert str(first.pid) in said
    assert "Traceback" not in said

    with grpc.insecure_channel(serving["address"]) as channel:
        pool = pools_pb2_grpc.PoolsStub(channel).CreatePool(pools_pb2.CreatePoolRequest(pool_id="news"))
        assert pool.name == "pools/news"
    assert port_file.read_text() == serving["address"] + "\n"

    first.send_signal(signal.SIGTERM)
    names = [event["event"] for event in _events_until(first, "stopped")]
    assert names == ["rpc", "audit", "draining", "stopped"]
    assert first.wait(timeout=60) == 0
    assert not port_file.exists()


def test_a_log_that_nobody_reads_holds_up_neither_calls_nor_the_end(launch):
    process = launch("--listen", "127.0.0.1:0", "--log-format", "json")
    serving = _events_until(process, "serving")[-1]
    with grpc.insecure_channel(serving["address"]) as channel:
        stub = pools_pb2_grpc.PoolsStub(channel)
        missing = pools_pb2.GetPoolRequest(name="pools/" + "x" * 100)
        for _ in range(400):  # half a kilobyte of log each: a pipe holds 64 KiB
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetPool(missing, timeout=30)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--listen", "0.0.0.0:0"), "loopback"),
        (("--log-level", "loud"), "flag --log-level"),
        (("--config", "/nowhere/assay.toml"), "/nowhere/assay.toml"),
    ],
)
def test_bad_settings_end_it_at_once(launch, tmp_path, flags, said):
    process = launch(*flags)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "data").exists()


def test_silent_connections_take_no_file_of_the_store(launch):
    """A server of 300 descriptors, and more sockets than that: files are opened all the same."""
    few = ("sh", "-c", 'ulimit -n 300 && exec "$@"', "sh")
    process = launch("--listen", "127.0.0.1:0", "--log-format", "json", under=few)
    serving = _events_until(process, "serving")[-1]
    host, _, port = serving["address"].rpartition(":")
    with grpc.insecure_channel(serving["address"]) as channel, contextlib.ExitStack() as sockets:
        pools, labeling = pools_pb2_grpc.PoolsStub(channel), labeling_pb2_grpc.LabelingStub(channel)
        pools.CreatePool(create_request(pool_id="news", class_names=["a", "b", "c"]))
        for _ in range(400):
            sockets.enter_context(socket.create_connection((host, int(port))))
        for round_ in range(3):
            added = pools.UploadSamples(iter([stream(0)[0], batch(100 * round_, embeddings(100))]))
            assert added.added == 100
            request = labeling_pb2.NextBatchRequest(parent="pools/news", worker="ann", size=5)
            assert len(labeling.NextBatch(request).picks) == 5


def _key(*flags):
    command = "import typer; from assay.server.app.command import key; typer.run(key)"
    return subprocess.run([sys.executable, "-c", command, *flags], capture_output=True, text=True, timeout=60)


def test_a_made_key_is_what_its_line_says(tmp_path):
    file = tmp_path / "keys.txt"
    file.write_text("# no line end")
    for flags in (("--append", str(file)), ()):
        done = _key("--role", "label", "--pools", "news,ads", "--name", "ann", *flags)
        assert done.returncode == 0, done.stderr
        told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        lines = file.read_text().splitlines() if flags else [told["line"]]
        caller = ApiKeys(lines).find(told["key"])
        assert (caller.name, caller.role, caller.pools) == ("ann", Role.LABEL, {"news", "ads"})


@pytest.mark.parametrize(
    ("flags", "said"),
    [(("--role", "king"), "role is one of read, label, mine, admin"), (("--role", "read", "--pools", "*"), "pool ids")],
)
def test_a_key_that_would_be_refused_is_not_made(flags, said):
    done = _key(*flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout

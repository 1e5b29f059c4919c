"""The policy table covers what the server offers, and nothing else passes."""

import hashlib

import pytest

from assay.server.adapters.label_export import parquet_chunks
from assay.server.rpc.auth import POLICY, Access, ApiKeys, authorize
from assay.server.rpc.errors import EdgeError, EdgeReason
from assay.server.rpc.execution import open_lanes
from assay.server.rpc.gate import Gate
from assay.server.rpc.server import register

KEY = "k" * 32


class _Recorder:
    """Takes the registrations that a gRPC server would."""

    def __init__(self):
        self.methods = set()

    def add_generic_rpc_handlers(self, handlers):
        for handler in handlers:
            self.methods |= set(handler._method_handlers)

    def add_registered_method_handlers(self, service, handlers):
        self.methods |= {f"/{service}/{method}" for method in handlers}


def _registered():
    import grpc.aio
    from grpc_health.v1 import health

    class Server(_Recorder, grpc.aio.Server):
        add_insecure_port = add_secure_port = start = stop = wait_for_termination = None

    server = Server()
    register(server, Gate(), open_lanes(), parquet_chunks, health.aio.HealthServicer())
    return server.methods


def test_the_table_lists_exactly_the_registered_rpcs():
    methods = _registered()
    assert "/assay.v1.Labeling/NextBatch" in methods
    assert methods == set(POLICY)


def test_only_health_is_open():
    opened = {method.split("/")[1] for method, access in POLICY.items() if access is Access.OPEN}
    assert opened == {"grpc.health.v1.Health"}


@pytest.mark.parametrize("keys", [ApiKeys(), ApiKeys([KEY])])
def test_an_unlisted_rpc_is_denied(keys):
    with pytest.raises(EdgeError) as caught:
        authorize("/assay.v1.Pools/DropEverything", {"x-api-key": KEY}, keys)
    assert caught.value.reason is EdgeReason.RPC_DENIED


@pytest.mark.parametrize(
    "metadata", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}]
)
@pytest.mark.parametrize("line", [KEY, "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()])
def test_a_key_opens(metadata, line):
    authorize("/assay.v1.Pools/GetPool", metadata, ApiKeys(["# ours", "", line, "o" * 20]))


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"authorization": KEY},
        {"authorization": "Bearer "},
        {"x-api-key": KEY[:-1]},
        {"authorization": "Basic " + KEY},
    ],
)
def test_anything_else_does_not(metadata):
    with pytest.raises(EdgeError) as caught:
        authorize("/assay.v1.Pools/GetPool", metadata, ApiKeys([KEY]))
    assert caught.value.reason is EdgeReason.UNAUTHENTICATED


def test_health_needs_no_key():
    authorize("/grpc.health.v1.Health/Check", {}, ApiKeys([KEY]))


def test_keys_are_not_kept_as_they_are():
    keys = ApiKeys([KEY])
    assert KEY not in repr(vars(keys))


def test_short_keys_are_refused():
    with pytest.raises(ValueError, match="fewer than 16"):
        ApiKeys(["secret"])

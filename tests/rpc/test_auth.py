"""The policy table covers what the server offers, and nothing else passes."""

import hashlib
import re

import pytest

from assay.server.adapters.label_export import parquet_chunks
from assay.server.rpc.auth import ANONYMOUS, LOCAL, POLICY, ApiKeys, Caller, authorize, identify
from assay.server.rpc.errors import EdgeError, EdgeReason
from assay.server.rpc.execution import open_executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.health import HealthServicer
from assay.server.rpc.server import SERVICES, register
from assay.v1.method import Reach, Role

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

    class Server(_Recorder, grpc.aio.Server):
        add_insecure_port = add_secure_port = start = stop = wait_for_termination = None

    server = Server()
    register(server, Gate(), open_executors(), parquet_chunks, HealthServicer(SERVICES))
    return server.methods


def test_the_table_lists_exactly_the_registered_rpcs():
    methods = _registered()
    assert "/assay.v1.Labeling/NextBatch" in methods
    assert methods == set(POLICY)


def test_only_health_is_open():
    opened = {method.split("/")[1] for method, rule in POLICY.items() if rule.role is None}
    assert opened == {"grpc.health.v1.Health"}


def test_what_changes_is_for_more_than_readers():
    """By the names of the RPCs: who adds one that changes something cannot leave it to readers unseen."""
    reads = re.compile(r"(Get|List|Search|Predict|Wait|Watch|Export|ServerReflection)")
    for method, rule in POLICY.items():
        name = method.rpartition("/")[2]
        if rule.role is not None:
            assert (rule.role is Role.READ) == bool(reads.match(name)), method


def test_what_destroys_is_for_administrators():
    for name in ("DeletePool", "DeleteSamples", "DeleteModel"):
        assert {rule.role for method, rule in POLICY.items() if method.endswith(f"/{name}")} == {Role.ADMIN}


def test_what_tells_nothing_of_pools_is_known():
    """Any other RPC must say how it keeps a bound key to its pools."""
    silent = {method.rpartition("/")[2] for method, rule in POLICY.items() if rule.reach is Reach.NONE}
    assert silent == {
        "ListStrategies",
        "ListPresets",
        "GetServerInfo",
        "ServerReflectionInfo",
        "Check",
        "List",
        "Watch",
    }


@pytest.mark.parametrize("caller", [ANONYMOUS, LOCAL, Caller("x", role=Role.ADMIN)])
def test_an_unlisted_rpc_is_denied(caller):
    with pytest.raises(EdgeError) as caught:
        authorize("/assay.v1.Pools/DropEverything", caller, {})
    assert caught.value.reason is EdgeReason.RPC_DENIED


@pytest.mark.parametrize(
    "metadata", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}]
)
@pytest.mark.parametrize(
    "line", [KEY, *(word + hashlib.sha256(KEY.encode()).hexdigest() for word in ("sha256:", "SHA256:"))]
)
def test_a_key_opens(metadata, line):
    caller = identify(metadata, ApiKeys(["# ours", "", f"{line} name=ann role=read", "o" * 20 + " role=admin"]))
    assert (caller.name, caller.role, caller.pools) == ("ann", Role.READ, None)
    authorize("/assay.v1.Pools/GetPool", caller, metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"authorization": KEY},
        {"authorization": "Bearer "},
        {"x-api-key": KEY[:-1]},
        {"authorization": "Basic " + KEY},
        {"x-api-key": "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()},
    ],
)
def test_anything_else_does_not(metadata):
    caller = identify(metadata, ApiKeys([f"{KEY} role=admin"]))
    assert caller is ANONYMOUS
    with pytest.raises(EdgeError) as caught:
        authorize("/assay.v1.Pools/GetPool", caller, metadata)
    assert caught.value.reason is EdgeReason.UNAUTHENTICATED


def test_health_needs_no_key():
    authorize("/grpc.health.v1.Health/Check", identify({}, ApiKeys([f"{KEY} role=read"])), {})


@pytest.mark.parametrize("role", Role)
def test_a_role_may_what_it_and_those_below_may(role):
    caller = identify({"x-api-key": KEY}, ApiKeys([f"{KEY} role={role.word}"]))
    for method, rule in POLICY.items():
        if rule.role is not None and rule.role > role:
            with pytest.raises(EdgeError) as caught:
                authorize(method, caller, {"x-api-key": KEY})
            assert caught.value.reason is EdgeReason.ROLE_NEEDED
            assert caught.value.metadata == {"needed": rule.role.word, "role": role.word}
            assert f"needs the role {rule.role.word}" in caught.value.message
        else:
            authorize(method, caller, {"x-api-key": KEY})


def test_keys_that_may_everything_are_told_of():
    keys = ApiKeys([f"{KEY} role=admin", f"{KEY}2 role=admin pools=a", f"{KEY}3 role=mine"])
    assert keys.unrestricted() == [identify({"x-api-key": KEY}, keys).fingerprint]


def test_a_bound_key_sees_its_pools_only():
    caller = identify({"x-api-key": KEY}, ApiKeys([f"{KEY} role=label pools=news,ads"]))
    assert [pool for pool in ("news", "ads", "secret", "") if caller.sees(pool)] == ["news", "ads"]
    with pytest.raises(EdgeError) as caught:
        caller.require("secret")
    assert caught.value.reason is EdgeReason.POOL_DENIED


def test_keys_are_not_kept_as_they_are():
    keys = ApiKeys([f"{KEY} role=read name=ann"])
    assert KEY not in repr(vars(keys))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("secret", "fewer than 16"),
        ("sha256:abcdefabcdef", "64 hexadecimal"),
        ("Sha256:abcdefabcdef", "64 hexadecimal"),
        (KEY, "add role= and one of read, label, mine, admin"),
        (f"{KEY} pools=news name=ann", "add role= and one of"),
        (f"{KEY} role=root", "role is one of"),
        (f"{KEY} role=", "role=, pools= and name="),
        (f"{KEY} admin", "role=, pools= and name="),
        (f"{KEY} role=read role=admin", "at most once"),
        (f"{KEY} role=read pools=news,,ads", "pool ids"),
        (f"{KEY} role=read pools=*", "pool ids"),
        (f"{KEY} name=\x1b[31m", "a name is"),
        ("x" * 20, "in the list already"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_by_its_number_and_never_shown(line, problem):
    with pytest.raises(ValueError, match="line 3") as caught:
        ApiKeys(["x" * 20 + " role=read", "", line])
    assert problem in str(caught.value)
    assert line.split()[0] not in str(caught.value)

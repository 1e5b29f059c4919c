"""Keys over the wire: roles, pools, audit lines, and changes of the files while the server serves."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os

import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, message_factory

from assay.server.app.config import load
from assay.server.app.secrets import Reloader
from assay.server.rpc.audit import LOGGER
from assay.server.rpc.auth import POLICY
from assay.v1 import annotations_pb2, labeling_pb2, models_pb2, pools_pb2, types_pb2
from assay.v1.method import Reach, Role
from tests.rpc.stubs import POOL, Stubs, create_request, failure, said, stream
from tests.rpc.test_tls import Authority

KEYS = {
    "root": "root-key-that-is-long role=admin name=root",
    "miner": "mine-key-that-is-long role=mine name=miner",
    "ann": "label-key-that-is-long role=label pools=news name=ann",
    "reader": "read-key-that-is-long role=read name=reader",
    "tenant": "tenant-key-that-is-long role=admin pools=ads name=tenant",
}
LIST = pools_pb2.ListPoolsRequest()


def key(who):
    """Metadata of somebody's key."""
    return (("x-api-key", KEYS[who].split()[0]),)


@pytest.fixture
def keys_file(tmp_path):
    path = tmp_path / "keys.txt"
    path.write_text("# ours\n" + "\n".join(KEYS.values()) + "\n")
    return path


@pytest.fixture
async def secured(start, keys_file):
    """(server, stubs) of a server with keys, and pools "news" and "ads"."""
    async with start(api_key_file=str(keys_file)) as server, grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        for pool in ("news", "ads"):
            request = create_request(pool_id=pool, class_names=["a", "b", "c"])
            await stubs.pools.CreatePool(request, metadata=key("root"))
        await stubs.pools.UploadSamples(iter(stream(100)), metadata=key("root"))
        yield server, stubs


def _path(method):
    service, _, name = method.rpartition("/")
    return descriptor_pool.Default().FindServiceByName(service[1:]).methods_by_name[name]


def _request(method, pool):
    """A request of an RPC that names a pool, and nothing else."""
    made = message_factory.GetMessageClass(_path(method).input_type)()
    target = made.header if hasattr(made, "header") else made
    for field, value in (
        ("pool_id", pool),
        *((field, f"pools/{pool}") for field in ("parent", "pool", "name")),
    ):
        if field in target.DESCRIPTOR.fields_by_name:
            # The resource itself, or something below it.
            child = {"model": "models/m", "lease": "leases/l", "sample": "samples/s", "operation": "operations/o"}
            child["source"] = "predictionSources/s"
            below = next((path for word, path in child.items() if word in method.rpartition("/")[2].lower()), "")
            if target.DESCRIPTOR.fields_by_name[field].message_type is not None:
                # The resource comes whole, and its name in it.
                target, field = getattr(target, field), "name"
            setattr(target, field, f"{value}/{below}" if field == "name" and below else value)
            return made
    raise AssertionError(f"{method} names no pool")


def _call(channel, method, request, who):
    call = channel.stream_stream(method)(iter([request.SerializeToString()]), metadata=key(who))
    return call.read()


async def test_a_bound_key_reaches_no_other_pool_by_any_rpc(secured):
    _, stubs = secured
    for method in sorted(method for method, rule in POLICY.items() if rule.reach is Reach.REQUEST):
        code, reason, metadata, _ = await failure(_call(stubs.channel, method, _request(method, "news"), "tenant"))
        assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "POOL_DENIED"), method
        assert metadata["pool"] == "news"


async def test_what_others_said_is_for_admins_to_take_back(secured):
    _, stubs = secured
    await stubs.annotations.Annotate(
        annotations_pb2.AnnotateRequest(parent=POOL, worker="bob", annotations=said({"s1": "a"})), metadata=key("ann")
    )
    withdraw = annotations_pb2.WithdrawAnnotationsRequest(parent=POOL, worker="ann", annotator="bob", sample_ids=["s1"])
    reopen = annotations_pb2.SetSampleStateRequest(
        parent=POOL, worker="ann", sample_ids=["s1"], action=annotations_pb2.STATE_ACTION_REOPEN
    )
    for call, request in (
        (stubs.annotations.WithdrawAnnotations, withdraw),
        (stubs.annotations.SetSampleState, reopen),
    ):
        code, reason, metadata, _ = await failure(call(request, metadata=key("ann")))
        assert (code, reason, metadata["role"]) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NEEDED", "admin")
    assert (await stubs.annotations.WithdrawAnnotations(withdraw, metadata=key("root"))).withdrawn == 1
    undo = annotations_pb2.UndoLastActionRequest(parent=POOL, worker="ann")
    code, reason, metadata, _ = await failure(stubs.annotations.UndoLastAction(undo, metadata=key("ann")))
    assert (code, reason, metadata["role"]) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NEEDED", "admin")
    verdict = annotations_pb2.ReviewSamplesRequest(parent=POOL, worker="rita")
    verdict.reviews.add(sample_id="s2", value=types_pb2.Value(class_name="b"))
    await stubs.annotations.ReviewSamples(verdict, metadata=key("miner"))
    undo.worker = "rita"
    code, reason, metadata, _ = await failure(stubs.annotations.UndoLastAction(undo, metadata=key("ann")))
    assert (code, reason, metadata["role"]) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NEEDED", "mine")
    verdict.reviews[0].reject = True
    code, reason, *_ = await failure(stubs.annotations.ReviewSamples(verdict, metadata=key("miner")))
    assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NEEDED")
    assert (await stubs.annotations.UndoLastAction(undo, metadata=key("miner"))).undone == 1
    withdraw.annotator = "ann"  # its own: the role label will do
    code, reason, *_ = await failure(stubs.annotations.WithdrawAnnotations(withdraw, metadata=key("ann")))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "ANNOTATION_NOT_FOUND")


async def test_nor_does_it_learn_which_others_exist(secured):
    _, stubs = secured
    told = []
    for pool in ("news", "no-such-pool"):
        request = pools_pb2.GetPoolRequest(name=f"pools/{pool}")
        told.append((await failure(stubs.pools.GetPool(request, metadata=key("tenant"))))[:2])
    assert told[0] == told[1]
    listed = await stubs.pools.ListPools(LIST, metadata=key("tenant"))
    assert [pool.name for pool in listed.pools] == ["pools/ads"]
    listed = await stubs.pools.ListPools(LIST, metadata=key("reader"))
    assert [pool.name for pool in listed.pools] == ["pools/ads", "pools/news"]


async def test_a_name_that_is_none_gets_a_bound_key_nowhere(secured):
    _, stubs = secured
    for name in ("pools/news/x", "pools/ads ", "Pools/ads", "pools/ads\n", "", "/pools/ads", "pools//ads"):
        request = pools_pb2.GetPoolRequest(name=name)
        code, _, _, _ = await failure(stubs.pools.GetPool(request, metadata=key("tenant")))
        assert code is grpc.StatusCode.PERMISSION_DENIED, name


async def test_operations_are_those_of_the_callers_pools(secured):
    _, stubs = secured
    labels = said({f"s{i}": "abc"[i % 3] for i in range(60)})
    submit = annotations_pb2.AnnotateRequest(parent=POOL, worker="ann", annotations=labels)
    await stubs.annotations.Annotate(submit, metadata=key("ann"))
    operation = await stubs.models.TrainHead(models_pb2.TrainHeadRequest(parent=POOL), metadata=key("miner"))
    for call, request in (
        (stubs.operations.GetOperation, operations_pb2.GetOperationRequest(name=operation.name)),
        (stubs.operations.WaitOperation, operations_pb2.WaitOperationRequest(name=operation.name)),
        (stubs.operations.CancelOperation, operations_pb2.CancelOperationRequest(name=operation.name)),
        (stubs.operations.DeleteOperation, operations_pb2.DeleteOperationRequest(name=operation.name)),
    ):
        assert (await failure(call(request, metadata=key("tenant"))))[1] == "POOL_DENIED"
    everything = operations_pb2.ListOperationsRequest(name="pools/-")
    assert not (await stubs.operations.ListOperations(everything, metadata=key("tenant"))).operations
    assert len((await stubs.operations.ListOperations(everything, metadata=key("reader"))).operations) == 1
    done = await stubs.operations.WaitOperation(
        operations_pb2.WaitOperationRequest(name=operation.name), metadata=key("ann")
    )
    assert done.name == operation.name


async def test_a_reader_sees_leases_without_their_tokens(secured):
    _, stubs = secured
    request = labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=3)
    lease = (await stubs.labeling.NextBatch(request, metadata=key("ann"))).lease
    get, listing = labeling_pb2.GetLeaseRequest(name=lease.name), labeling_pb2.ListLeasesRequest(parent=POOL)
    assert (await stubs.labeling.GetLease(get, metadata=key("ann"))).fencing_token == lease.fencing_token > 0
    seen = await stubs.labeling.GetLease(get, metadata=key("reader"))
    assert (seen.fencing_token, seen.worker) == (0, "ann")
    listed = await stubs.labeling.ListLeases(listing, metadata=key("reader"))
    assert [each.fencing_token for each in listed.leases] == [0]


async def test_a_missing_role_is_named(secured):
    _, stubs = secured
    request = pools_pb2.DeletePoolRequest(name=POOL)
    code, reason, metadata, _ = await failure(stubs.pools.DeletePool(request, metadata=key("miner")))
    assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NEEDED")
    assert metadata == {"needed": "admin", "role": "mine"}


# --- audit ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def audited():
    """The audit lines, as mappings."""
    lines = []

    class Keeper(logging.Handler):
        def emit(self, record):
            lines.append(
                {name: getattr(record, name) for name in ("outcome", "who", "key", "role", "method", "pool")}
                | {name: getattr(record, name) for name in ("peer", "code", "reason", "request_id")}
            )

    keeper = Keeper()
    logging.getLogger(LOGGER).addHandler(keeper)
    yield lines
    logging.getLogger(LOGGER).removeHandler(keeper)


async def test_refused_and_privileged_calls_are_audited_and_others_not(secured, audited):
    _, stubs = secured
    audited.clear()
    await stubs.pools.ListPools(LIST, metadata=key("reader"))
    await failure(stubs.pools.ListPools(LIST, metadata=(("x-api-key", "not-a-key-of-this-server"),)))
    await failure(stubs.pools.DeletePool(pools_pb2.DeletePoolRequest(name=POOL), metadata=key("miner")))
    await failure(stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL), metadata=key("tenant")))
    forged = 'ads\n{"event": "audit", "who": "root"}\x1b[2K'
    await failure(stubs.pools.CreatePool(pools_pb2.CreatePoolRequest(pool_id=forged), metadata=key("root")))
    request = pools_pb2.DeletePoolRequest(name="pools/ads", request_id="tidy")
    await stubs.pools.DeletePool(request, metadata=key("tenant"))
    digest = hashlib.sha256(KEYS["tenant"].split()[0].encode()).hexdigest()
    told = [(line["outcome"], line["who"], line["reason"], line["method"].rpartition("/")[2]) for line in audited]
    assert told == [
        ("refused", "-", "UNAUTHENTICATED", "ListPools"),
        ("refused", "miner", "ROLE_NEEDED", "DeletePool"),
        ("refused", "tenant", "POOL_DENIED", "GetPool"),
        ("failed", "root", "INVALID_NAME", "CreatePool"),
        ("done", "tenant", "-", "DeletePool"),
    ]
    last = audited[-1]
    assert (last["key"], last["role"], last["pool"], last["request_id"]) == (digest[:12], "admin", "ads", "tidy")
    assert last["peer"].startswith("ipv4:127.0.0.1:")
    assert not [word for word in json.dumps(audited).split('"') if word in {line.split()[0] for line in KEYS.values()}]


# --- changed files -------------------------------------------------------------------------------------------------


async def _code(stubs, who):
    try:
        await stubs.pools.ListPools(LIST, metadata=key(who))
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_keys_are_read_again_when_their_file_changes(secured, keys_file):
    _, stubs = secured
    assert await _code(stubs, "reader") is grpc.StatusCode.OK
    keys_file.write_text(KEYS["root"] + "\n")
    while await _code(stubs, "reader") is grpc.StatusCode.OK:
        await asyncio.sleep(0.05)
    assert await _code(stubs, "reader") is grpc.StatusCode.UNAUTHENTICATED
    assert await _code(stubs, "root") is grpc.StatusCode.OK


async def test_what_was_in_the_way_of_new_keys_may_leave_without_a_trace(secured, keys_file):
    """As an owner does that is set right later: the file looks as it did when it could not be used."""
    server, stubs = secured
    reloader = Reloader(load({"api_key_file": str(keys_file)}, {}), server.rpc, {})
    keys_file.write_text(KEYS["root"] + "\nshort\n")
    stamp = keys_file.stat()
    reloader.look()
    assert await _code(stubs, "reader") is grpc.StatusCode.OK
    keys_file.write_text(KEYS["root"] + "\n#fine\n")
    os.utime(keys_file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert (keys_file.stat().st_size, keys_file.stat().st_mtime_ns) == (stamp.st_size, stamp.st_mtime_ns)
    reloader.look()
    assert await _code(stubs, "reader") is grpc.StatusCode.UNAUTHENTICATED


async def test_a_byte_order_mark_is_no_part_of_the_first_key(secured, keys_file):
    server, stubs = secured
    reloader = Reloader(load({"api_key_file": str(keys_file)}, {}), server.rpc, {})
    keys_file.write_text(KEYS["root"].replace("\n", "\r\n") + "\r\n", encoding="utf-8-sig")
    reloader.look()
    assert await _code(stubs, "root") is grpc.StatusCode.OK
    assert await _code(stubs, "reader") is grpc.StatusCode.UNAUTHENTICATED


async def test_a_file_of_keys_that_cannot_be_used_leaves_the_old_in_service(secured, keys_file):
    server, stubs = secured
    reloader = Reloader(load({"api_key_file": str(keys_file)}, {}), server.rpc, {})
    unreadable = (b"\xe4" * 32 + b"\n", (KEYS["root"] + "\n").encode("utf-16"))
    for content in ("", "# none\n", "short\n", KEYS["root"] + " role=king\n", *unreadable, None):
        if content is None:
            keys_file.unlink()
        else:
            keys_file.write_bytes(content if isinstance(content, bytes) else content.encode())
        reloader.look()
        assert await _code(stubs, "reader") is grpc.StatusCode.OK
    keys_file.write_text(KEYS["root"] + "\n")
    reloader.look()
    assert await _code(stubs, "reader") is grpc.StatusCode.UNAUTHENTICATED


def _issue(authority, folder):
    for name, content in zip(("tls_cert", "tls_key"), authority.issue(), strict=True):
        fresh = folder / f"{name}.new"
        fresh.write_bytes(content)
        os.replace(fresh, folder / name)


@contextlib.asynccontextmanager
async def _trusting(server, authority):
    credentials = grpc.ssl_channel_credentials(authority.pem)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(server.address, credentials, options) as channel:
        yield Stubs(channel)


async def _served(server, authority):
    """Whether a client that trusts this authority alone gets an answer."""
    async with _trusting(server, authority) as stubs:
        try:
            await stubs.pools.ListPools(LIST)
        except grpc.aio.AioRpcError:
            return False
        return True


async def test_a_new_certificate_is_shown_without_a_restart_and_a_broken_one_never(start, tmp_path):
    old, new = Authority(), Authority()
    _issue(old, tmp_path)
    flags = {name: str(tmp_path / name) for name in ("tls_cert", "tls_key")}
    async with start(**flags) as server, _trusting(server, old) as before:
        reloader = Reloader(load(flags, {}), server.rpc, {})
        await before.pools.ListPools(LIST)
        # The certificate of one pair with the key of another; half a file; nothing.
        key_before = (tmp_path / "tls_key").read_bytes()
        _issue(new, tmp_path)
        (tmp_path / "tls_key").write_bytes(key_before)
        for broken in (None, b"-----BEGIN CERTIFICATE-----\nMII", b""):
            if broken is not None:
                (tmp_path / "tls_cert").write_bytes(broken)
            reloader.look()
            assert await _served(server, old)
        _issue(new, tmp_path)
        reloader.look()
        assert await _served(server, new)
        assert not await _served(server, old)
        await before.pools.ListPools(LIST)  # its connection stands


def test_roles_rise():
    assert [role.word for role in sorted(Role)] == ["read", "label", "mine", "admin"]

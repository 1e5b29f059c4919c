"""Both clients have the same methods, which together reach every call of the server."""

import inspect
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_args, get_origin

import pytest

from assay.client import (
    AsyncClient,
    AsyncOperation,
    Client,
    Operation,
    _annotations,
    _audits,
    _changes,
    _importing,
    _ingest,
    _labeling,
    _mining,
    _models,
    _operations,
    _pools,
    _predictions,
    _updates,
)
from assay.v1 import methods as methods_of_v1
from assay.v1.method import Method
from tests.client.scripted import services

# Not offered: adding a batch without a stream, which is for clients that have none; forgetting an operation, which the
# server does by itself; and more of health than one check.
LEFT_OUT = {
    "/assay.v1.Pools/AddSamples",
    "/google.longrunning.Operations/DeleteOperation",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}
BUILDERS = (
    _annotations,
    _audits,
    _changes,
    _importing,
    _ingest,
    _labeling,
    _mining,
    _models,
    _operations,
    _pools,
    _predictions,
    _updates,
)


def methods(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Operation, AsyncOperation)])
def test_same_methods_with_same_parameters(one: type, other: type) -> None:
    ours, theirs = methods(one), methods(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert inspect.signature(ours[name]).parameters == inspect.signature(theirs[name]).parameters, name
        assert ours[name].__doc__ == theirs[name].__doc__, name
    assert inspect.signature(one).parameters.keys() - {"transport"} == inspect.signature(other).parameters.keys() - {
        "transport"
    }


def test_results_are_the_same_but_for_waiting() -> None:
    for name, method in methods(Client).items():
        ours = inspect.signature(method).return_annotation
        theirs = inspect.signature(getattr(AsyncClient, name)).return_annotation
        if get_origin(ours) is Iterator:
            assert get_origin(theirs) is AsyncIterator, name
        elif get_origin(ours) is Operation:
            assert get_origin(theirs) is AsyncOperation, name
            assert get_args(theirs) == get_args(ours), name
        else:
            assert ours == theirs, name


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_method_is_documented(kind: type) -> None:
    assert [name for name, method in methods(kind).items() if not method.__doc__] == []


def test_every_call_of_the_server_is_reached() -> None:
    """Read from the code that builds the calls: each writes its method of the table down."""
    source = "".join(inspect.getsource(module) for module in BUILDERS)
    table = {method.path: name for name, method in vars(methods_of_v1).items() if isinstance(method, Method)}
    assert table.keys() == methods_of_v1.METHODS.keys()
    unused = {path for path, name in table.items() if not re.search(rf"\bmethods\.{name}\b", source)}
    assert unused == LEFT_OUT


def test_the_table_says_what_the_protos_say() -> None:
    declared = {f"/{service.full_name}/{method.name}": method for service in services() for method in service.methods}
    assert declared.keys() == methods_of_v1.METHODS.keys()
    for path, method in methods_of_v1.METHODS.items():
        proto = declared[path]
        assert (proto.input_type, proto.output_type) == (method.request.DESCRIPTOR, method.response.DESCRIPTOR), path
        assert (method.streams_requests, method.streams_responses) == (proto.client_streaming, proto.server_streaming)

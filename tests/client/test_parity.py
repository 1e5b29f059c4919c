"""Both clients have the same methods, which together reach every call of the server."""

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_origin

import pytest

from assay.client import (
    AsyncClient,
    AsyncOperation,
    Client,
    Operation,
    _ingest,
    _labeling,
    _mining,
    _models,
    _operations,
    _pools,
)
from tests.client.scripted import services

# Not offered: forgetting an operation, which the server does by itself, and more of health than one check.
LEFT_OUT = {
    "/google.longrunning.Operations/DeleteOperation",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
}
BUILDERS = (_ingest, _labeling, _mining, _models, _operations, _pools)


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
        elif ours is Operation:
            assert theirs is AsyncOperation, name
        else:
            assert ours == theirs, name


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_method_is_documented(kind: type) -> None:
    assert [name for name, method in methods(kind).items() if not method.__doc__] == []


def test_every_call_of_the_server_is_reached() -> None:
    """Read from the code that builds the calls: each writes its method's name down."""
    source = "".join(inspect.getsource(module) for module in BUILDERS)
    declared = {f"/{service.full_name}/{method.name}" for service in services() for method in service.methods}
    assert {path for path in declared - LEFT_OUT if f'{path.rpartition("/")[2]}"' not in source} == set()

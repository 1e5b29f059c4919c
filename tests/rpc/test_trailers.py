"""What an error quotes never keeps it from arriving."""

import errno

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.errors import EdgeReason, describe
from assay.server.rpc.trailers import MESSAGE_BYTES, METADATA_BYTES, fitting_facts, fitting_message
from assay.v1 import annotations_pb2, pools_pb2
from tests.rpc.stubs import POOL, failure, said

LONG = (3_000, 20_000, 1_000_000)


def _encoded(text):
    """Bytes of a text as gRPC percent-encodes it."""
    return sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in text.encode())


@given(st.text(), st.integers(0, 5000))
def test_a_message_fits_whatever_it_says(text, times):
    assert _encoded(fitting_message(text * times)) <= MESSAGE_BYTES


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,20}", fullmatch=True), st.text(), max_size=8), st.integers(0, 2000))
def test_facts_fit_and_keep_their_keys(facts, times):
    kept = fitting_facts({key: value * times for key, value in facts.items()})
    assert list(kept) == list(facts)
    assert sum(len(key.encode()) + len(value.encode()) for key, value in kept.items()) <= METADATA_BYTES


def test_both_ends_of_a_long_message_are_kept_and_its_length_is_told():
    told = fitting_message("No class " + "c" * 20_000 + " is known. List the classes.")
    assert told.startswith("No class ccc")
    assert told.endswith("ccc is known. List the classes.")
    assert "20,037 characters" in told


def test_short_facts_are_whole_beside_a_long_one():
    kept = fitting_facts({"class_name": "c" * 100_000, "pool": "news", "position": "17"})
    assert (kept["pool"], kept["position"]) == ("news", "17")
    assert kept["class_name"].startswith("ccc")


def test_what_fits_is_not_touched():
    assert fitting_message("Grüße, 50 %") == "Grüße, 50 %"
    assert fitting_facts({"a": "ü" * 100}) == {"a": "ü" * 100}


def test_halves_of_characters_do_not_keep_an_error_from_being_told():
    failure = describe(AssayError(Reason.INVALID_NAME, "no \ud800 name", name="\udfff"))
    assert failure.status().message == "no ? name"


@pytest.mark.parametrize("length", LONG)
@pytest.mark.parametrize("letter", ["x", "%", "ü", "\n", "\U0001f600"])
async def test_an_error_that_quotes_much_arrives_with_its_reason(stubs, letter, length):
    call = stubs.pools.CreatePool(pools_pb2.CreatePoolRequest(pool_id=letter * length))
    code, reason, metadata, _ = await failure(call)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME")
    assert metadata["name"].startswith(letter)


@pytest.mark.parametrize("length", LONG)
async def test_so_does_one_about_a_long_class_name(stubs, length):
    await stubs.create_pool()
    await stubs.fill(1)
    request = annotations_pb2.AnnotateRequest(parent=POOL, worker="ann", annotations=said({"s0": "ç" * length}))
    call = stubs.annotations.Annotate(request)
    code, reason, metadata, _ = await failure(call)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_CLASS")
    assert metadata["class_name"].startswith("ççç")


def _wrapped():
    try:
        raise OSError(errno.EMFILE, "Too many open files")
    except OSError as error:
        return AssayError(Reason.STORAGE_FAILED, "The file could not be opened."), error


def test_running_out_of_descriptors_is_no_failure_of_the_server():
    wrapped, cause = _wrapped()
    wrapped.__cause__ = cause
    for error in (cause, wrapped):
        told = describe(error)
        assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, EdgeReason.OUT_OF_FILES)
        assert told.retry_after
    assert describe(OSError(errno.EACCES, "no")).code is grpc.StatusCode.INTERNAL

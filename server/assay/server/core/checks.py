"""Checks of what callers give, each at the one place where it enters the domain."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.limits import MAX_CHUNK, MAX_ID_BYTES, MAX_TTL, MIN_TTL
from assay.server.core.records.arrays import FloatArray, Scalar
from assay.server.core.records.filters import AllOf, AnyOf, Compare, Filter, HasId, Not, OneOf
from assay.server.core.records.pools import Metric

# Rows of probabilities may miss 1 by rounding, but not by more.
PROBABILITY_SLACK = 1e-3
# Below this a squared length in single precision has lost digits.
SMALLEST_SQUARE = 1e-30

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def name(value: str, what: str) -> str:
    """A pool or model id. Raises AssayError(INVALID_NAME)."""
    if not _NAME.fullmatch(value):
        raise AssayError(
            Reason.INVALID_NAME,
            f"{value!r} is no {what} id: use a lower-case letter, then up to 62 lower-case letters, digits, '-' or "
            f"'_'.",
            name=value,
        )
    return value


def worker(value: str) -> str:
    """A worker. Raises AssayError(INVALID_ID)."""
    if not 1 <= len(value.encode()) <= MAX_ID_BYTES or CONTROL.search(value):
        raise AssayError(
            Reason.INVALID_ID, f"A worker is 1 to {MAX_ID_BYTES} bytes of text without control characters."
        )
    return value


def text(value: str, what: str, most: int) -> str:
    """A short text. Raises AssayError(TOO_LARGE)."""
    if len(value.encode()) > most:
        raise AssayError(Reason.TOO_LARGE, f"{what} has {len(value.encode())} bytes; at most {most} are kept.")
    return value


def ids(values: Sequence[str], most: int) -> None:
    """Distinct sample ids. Raises AssayError(INVALID_ARGUMENT | INVALID_ID | DUPLICATE_ID | TOO_LARGE)."""
    if not values:
        raise AssayError(Reason.INVALID_ARGUMENT, "No ids were given; give at least one.")
    if len(values) > most:
        raise AssayError(Reason.TOO_LARGE, f"{len(values)} ids in one request; at most {most} are taken. Send several.")
    # One pass over all ids together; the culprit is looked for only if there is one.
    if CONTROL.search("".join(values)) or not all(values) or _longest(values) > MAX_ID_BYTES:
        raise _bad_id(values)
    if len(set(values)) < len(values):
        raise _repeated_id(values)


def _longest(values: Sequence[str]) -> int:
    longest = max(map(len, values))
    return longest if longest * 4 <= MAX_ID_BYTES else max(len(value.encode()) for value in values)


def _bad_id(values: Sequence[str]) -> AssayError:
    position = next(i for i, v in enumerate(values) if not 1 <= len(v.encode()) <= MAX_ID_BYTES or CONTROL.search(v))
    return SampleError(
        Reason.INVALID_ID, position, f"its id is empty, longer than {MAX_ID_BYTES} bytes or has control characters."
    )


def _repeated_id(values: Sequence[str]) -> AssayError:
    seen: set[str] = set()
    row = next(i for i, value in enumerate(values) if value in seen or seen.add(value))  # type: ignore[func-returns-value]
    return SampleError(Reason.DUPLICATE_ID, row, "its id occurs twice in one request.", values[row])


def size(value: int, most: int) -> int:
    """A number of picks. Raises AssayError(INVALID_ARGUMENT)."""
    if not 1 <= value <= most:
        raise AssayError(Reason.INVALID_ARGUMENT, f"Ask for 1 to {most:,} samples, not {value}.", field="size")
    return value


def chunk_size(value: int) -> int:
    """Samples per streamed message. Raises AssayError(INVALID_ARGUMENT)."""
    if not 1 <= value <= MAX_CHUNK:
        raise AssayError(Reason.INVALID_ARGUMENT, f"A chunk holds 1 to {MAX_CHUNK} samples, not {value}.")
    return value


def ttl(value: float) -> float:
    """Seconds that a lease lasts. Raises AssayError(INVALID_ARGUMENT)."""
    if not (math.isfinite(value) and MIN_TTL <= value <= MAX_TTL):
        raise AssayError(Reason.INVALID_ARGUMENT, f"A lease lasts 1 second to 7 days, not {value} s.")
    return value


# --- arrays --------------------------------------------------------------------------------------------------------


def embeddings(vectors_ND: FloatArray, dimension: int, metric: Metric) -> FloatArray:
    """Embeddings of the right dimension, all finite, as the pool stores them: scaled to length 1 for cosine.

    Raises:
        AssayError: DIMENSION_MISMATCH; NOT_FINITE; INVALID_MATRIX: a zero vector has no direction, one whose squared
            length overflows no distance.
    """
    if vectors_ND.ndim != 2 or vectors_ND.shape[1] != dimension:
        raise AssayError(
            Reason.DIMENSION_MISMATCH,
            f"The pool holds vectors of {dimension} numbers; these have {vectors_ND.shape[-1]}.",
            expected=dimension,
            got=vectors_ND.shape[-1],
        )
    squares_N = np.einsum("nd,nd->n", vectors_ND, vectors_ND)
    overflows_N = ~np.isfinite(squares_N)
    if overflows_N.any():
        _refuse_not_finite(vectors_ND)
    if metric is not Metric.COSINE:
        if overflows_N.any():
            raise _too_long(int(np.flatnonzero(overflows_N)[0]))
        return vectors_ND
    if overflows_N.any() or squares_N.min(initial=1) < SMALLEST_SQUARE:
        return _normalised_carefully(vectors_ND)
    if np.abs(squares_N - 1).max(initial=0) < 1e-6:
        return vectors_ND
    scaled: FloatArray = vectors_ND * (1 / np.sqrt(squares_N))[:, None].astype(np.float32)
    return scaled


def _normalised_carefully(vectors_ND: FloatArray) -> FloatArray:
    """For vectors whose squares vanish or overflow in single precision."""
    lengths_N = np.sqrt(np.square(vectors_ND, dtype=np.float64).sum(axis=1))
    if not lengths_N.all():
        row = int(np.flatnonzero(lengths_N == 0)[0])
        raise SampleError(
            Reason.INVALID_MATRIX, row, "its vector is zero and has no direction; a cosine pool refuses it."
        )
    scaled: FloatArray = (vectors_ND / lengths_N[:, None]).astype(np.float32)
    return scaled


def _too_long(row: int) -> AssayError:
    return SampleError(
        Reason.INVALID_MATRIX,
        row,
        "its vector is so long that its squared length is no float32; distances to it mean nothing. Scale the vectors.",
    )


def _refuse_not_finite(values_ND: FloatArray) -> None:
    bad = np.argwhere(~np.isfinite(values_ND))
    if len(bad):
        row, column = bad[0].tolist()
        raise SampleError(
            Reason.NOT_FINITE,
            row,
            f"column {column} is {values_ND[row, column]}; only finite numbers are taken.",
            column=column,
        )


def finite(values_NX: FloatArray) -> None:
    """Numbers of samples. Raises SampleError(NOT_FINITE)."""
    if not np.isfinite(values_NX).all():
        _refuse_not_finite(values_NX)


def probabilities(probs_NC: FloatArray, classes: int) -> None:
    """Pushed class probabilities. Raises AssayError(DIMENSION_MISMATCH | NOT_FINITE | PROBABILITIES_INVALID)."""
    if classes == 0:
        raise AssayError(Reason.PROBABILITIES_INVALID, "The pool has no classes, so it takes no predictions.")
    if probs_NC.ndim != 2 or probs_NC.shape[1] != classes:
        raise AssayError(
            Reason.DIMENSION_MISMATCH,
            f"The pool has {classes} classes; the predictions have {probs_NC.shape[-1]} columns.",
            expected=classes,
            got=probs_NC.shape[-1],
        )
    _refuse_not_finite(probs_NC)
    off_N = (np.abs(probs_NC.sum(axis=1) - 1) > PROBABILITY_SLACK) | (probs_NC.min(axis=1) < 0)
    if off_N.any():
        row = int(np.flatnonzero(off_N)[0])
        raise SampleError(
            Reason.PROBABILITIES_INVALID,
            row,
            "its predictions are no distribution: numbers of 0 or more that sum to 1 are needed.",
        )


def wrong_kind(attribute: str, expected: str, got: str) -> AssayError:
    """The error for a value of another type than its attribute's."""
    return AssayError(
        Reason.ATTRIBUTE_TYPE_MISMATCH,
        f"Attribute {attribute!r} is of type {expected} in this pool, not {got}.",
        name=attribute,
        expected=expected,
        got=got,
    )


# --- filters -------------------------------------------------------------------------------------------------------

_KIND_OF = {bool: "bool", str: "string", int: "int64", float: "double"}
_ORDERED = {"<", "<=", ">", ">="}


def filter_fits(condition: Filter | None, kinds: Mapping[str, str]) -> None:
    """A filter whose attributes the pool has, compared with values of their types.

    Raises AssayError(UNKNOWN_ATTRIBUTE | ATTRIBUTE_TYPE_MISMATCH | INVALID_FILTER)."""
    match condition:
        case Compare(attribute, op, value):
            kind = _known(attribute, kinds)
            _comparable(attribute, kind, value)
            if op in _ORDERED and kind == "bool":
                raise AssayError(Reason.INVALID_FILTER, f"{attribute!r} is true or false; it has no order.")
        case OneOf(attribute, values):
            kind = _known(attribute, kinds)
            for value in values:
                _comparable(attribute, kind, value)
        case AllOf(filters) | AnyOf(filters):
            for inner in filters:
                filter_fits(inner, kinds)
        case Not(inner):
            filter_fits(inner, kinds)
        case HasId() | None:
            pass


def _known(attribute: str, kinds: Mapping[str, str]) -> str:
    if attribute not in kinds:
        raise AssayError(
            Reason.UNKNOWN_ATTRIBUTE,
            f"The pool has no attribute {attribute!r}; it has: {', '.join(sorted(kinds)) or 'none'}.",
            name=attribute,
        )
    return kinds[attribute]


def _comparable(attribute: str, kind: str, value: Scalar) -> None:
    got = _KIND_OF[type(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise AssayError(Reason.INVALID_FILTER, f"{attribute!r} cannot be compared with {value}.")
    numbers = {"int64", "double"}
    if got != kind and not {got, kind} <= numbers:
        raise wrong_kind(attribute, kind, got)

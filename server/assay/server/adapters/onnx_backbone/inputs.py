"""Inputs as they arrive, checked against a graph's signature."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.adapters.onnx_backbone.problems import shorten
from assay.server.adapters.onnx_backbone.signature import Input, Signature
from assay.server.core.errors import AssayError, Reason, first_of
from assay.server.core.records.models import TensorSpec

# What may be sent for each dtype of a graph: floats of any width, and integers whose values it can hold. Booleans pass
# for 0 and 1, and 0 and 1 for booleans.
_FLOATS = frozenset({"float16", "float32", "float64"})
_INTEGERS = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"})


def check_inputs(signature: Signature, inputs: Mapping[str, npt.NDArray[Any]]) -> int:
    """Number of samples. Raises AssayError(INPUTS_INVALID | NOT_FINITE)."""
    _check_names(signature, inputs)
    for item in signature.inputs:
        _check_dtype(item.spec, inputs[item.spec.name])
        _check_shape(item.spec, inputs[item.spec.name])
    count = _check_counts(inputs)
    _check_shared_sizes(signature.inputs, inputs)
    for item in signature.inputs:
        _check_range(item.spec, inputs[item.spec.name])
        _check_finite(item.spec, inputs[item.spec.name])
    if signature.mask_input:
        _check_mask(signature.mask_input, inputs[signature.mask_input])
    return count


def cast(array: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """An input as its graph takes it."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=dtype)


def _wrong(name: str, message: str) -> AssayError:
    return AssayError(Reason.INPUTS_INVALID, shorten(message), input=shorten(name))


def _check_names(signature: Signature, inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    names = [item.spec.name for item in signature.inputs]
    for name in names:
        if name not in inputs:
            raise _wrong(name, f"The input {name!r} is missing. The backbone takes: {', '.join(names)}.")
    for name in inputs:
        if name not in names:
            raise _wrong(name, f"The backbone has no input {name!r}. It takes: {', '.join(names)}.")


def _check_dtype(spec: TensorSpec, array: npt.NDArray[Any]) -> None:
    accepted = _FLOATS if spec.dtype in _FLOATS else _INTEGERS
    if array.dtype.name not in accepted:
        raise _wrong(
            spec.name,
            f"The input {spec.name!r} is {array.dtype.name}; the backbone takes {spec.dtype}. Send it as "
            f"{' or '.join(sorted(accepted))}.",
        )


def _check_range(spec: TensorSpec, array: npt.NDArray[Any]) -> None:
    """Whether a narrower type of the graph holds all integers of an array, which is not empty."""
    if spec.dtype in _FLOATS or np.can_cast(array.dtype, spec.dtype):
        return
    lowest, highest = (0, 1) if spec.dtype == "bool" else (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max)
    for value in (int(array.min()), int(array.max())):
        if not lowest <= value <= highest:
            rows = np.unique(np.argwhere(array == value)[:, 0]).tolist()
            problem = f"its input {spec.name!r} holds {value}; the backbone takes {spec.dtype}, {lowest} to {highest}."
            raise first_of(Reason.INPUTS_INVALID, rows, problem, input=spec.name)


def _check_shape(spec: TensorSpec, array: npt.NDArray[Any]) -> None:
    fits = array.ndim == len(spec.shape) and all(
        size == wanted or (wanted == -1 and size > 0) for size, wanted in zip(array.shape, spec.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size == -1 else str(size) for size in spec.shape)
        raise _wrong(
            spec.name,
            f"The input {spec.name!r} has the shape {list(array.shape)}. It takes [{wanted}], none of them 0.",
        )


def _check_counts(inputs: Mapping[str, npt.NDArray[Any]]) -> int:
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise AssayError(Reason.INPUTS_INVALID, shorten(f"The inputs hold different numbers of samples: {listed}."))
    return next(iter(counts.values()))


def _check_shared_sizes(items: tuple[Input, ...], inputs: Mapping[str, npt.NDArray[Any]]) -> None:
    """Dimensions that the graph gives one name to must be of one size."""
    seen: dict[str, tuple[str, int]] = {}
    for item in items:
        name = item.spec.name
        for symbol, size in zip(item.symbols, inputs[name].shape, strict=True):
            other, known = seen.setdefault(symbol, (name, size))
            if symbol and known != size:
                raise _wrong(
                    name, f"The dimension {symbol!r} is {known} in the input {other!r}, but {size} in {name!r}."
                )


def _check_finite(spec: TensorSpec, array: npt.NDArray[Any]) -> None:
    if array.dtype.kind != "f":
        return
    bad_N = ~np.isfinite(cast(array, spec.dtype)).reshape(len(array), -1).all(axis=1)
    if bad_N.any():
        rows = np.flatnonzero(bad_N).tolist()
        problem = f"its input {spec.name!r} holds NaN or infinity as {spec.dtype}."
        raise first_of(Reason.NOT_FINITE, rows, problem, input=spec.name)


def _check_mask(name: str, mask_NT: npt.NDArray[Any]) -> None:
    odd_N = ~((mask_NT == 0) | (mask_NT == 1)).all(axis=1)
    if odd_N.any():
        problem = f"its mask {name!r} holds values other than 0 (padding) and 1 (token)."
        raise first_of(Reason.INPUTS_INVALID, np.flatnonzero(odd_N).tolist(), problem, input=name)
    empty_N = ~mask_NT.any(axis=1)
    if empty_N.any():
        problem = f"its mask {name!r} leaves it no token. Send at least one."
        raise first_of(Reason.INPUTS_INVALID, np.flatnonzero(empty_N).tolist(), problem, input=name)

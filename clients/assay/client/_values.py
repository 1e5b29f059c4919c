"""What people keep their data in, as plain values: lists, numpy, pandas, Arrow, polars and torch alike.

None of these libraries is imported here but numpy: a column is known by what it can do (`to_pylist`, `to_list`,
`detach`), a missing value of pandas by asking pandas where the caller has loaded it. What can be read in one way only
is taken; anything else is refused by its place in the upload, its sample's id and its type.
"""

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from operator import index
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

# Types that need no second look.
_PLAIN: Final = frozenset({str, int, bool, bytes, dict, list, type(None)})
_LISTERS: Final = ("to_pylist", "to_list", "tolist")
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where values stand: the name of their column, the ids of the samples beside them, and how many came before; or,
    of the entries of one row, the sample that they all belong to. A value that is alone stands in no row."""

    what: str
    ids: Sequence[str] | None = None
    first: int = 0
    sample: str = ""
    alone: bool = False

    def at(self, row: int) -> str:
        """The place of one row, counted over the whole upload from 0."""
        return self.what if self.alone else f"{self._entry(row)}{self._sample(row)}"

    def alone_at(self, row: int) -> "Place":
        """The place of one row, as a value that stands alone."""
        return Place(self.at(row), alone=True)

    def within(self, row: int) -> "Place":
        """The place of the entries of one row."""
        return Place(self._entry(row), sample=self._sample(row))

    def _entry(self, row: int) -> str:
        return f"{self.what}[{self.first + row}]"

    def _sample(self, row: int) -> str:
        return f" (id {self.ids[row]!r})" if self.ids is not None and row < len(self.ids) else self.sample


def plain(value: Any) -> Any:
    """A value of Python itself where there is one: None for what numpy, pandas or Arrow call missing; the number, text
    or truth value of a scalar of theirs; the value of an enum's member. Anything else as it is."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return None if value != value else float(value)
    if _is_missing(value):
        return None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, np.generic):
        return _numpy_scalar(value)
    if isinstance(value, str):
        return str.__str__(value)
    if hasattr(value, "as_py"):
        return plain(value.as_py())
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return plain(value.item())
    return value


def _is_missing(value: Any) -> bool:
    if value is np.ma.masked or (isinstance(value, np.datetime64 | np.timedelta64) and np.isnat(value)):
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


def _numpy_scalar(value: np.generic) -> Any:
    if isinstance(value, np.datetime64 | np.timedelta64 | np.void):
        return value
    if isinstance(value, np.longdouble):
        return plain(float(value))
    return plain(value.item())


def column(values: Any, what: str, *, ordered: bool = True) -> list[Any]:
    """The values of a column, each as `plain` gives it.

    Raises:
        TypeError: one string, a mapping, a table or matrix, a set where the order counts, or nothing that holds values.
    """
    held = _held(values, what, ordered)
    if set(map(type, held)) <= _PLAIN:
        return held if isinstance(held, list) else list(held)
    return [plain(value) for value in held]


def _held(values: Any, what: str, ordered: bool) -> Sequence[Any]:
    if isinstance(values, list | tuple):
        return values
    if isinstance(values, str | bytes | bytearray | memoryview):
        raise TypeError(f"{what} takes several values, not one string")
    if isinstance(values, Mapping):
        raise TypeError(f"{what} takes a list, not a mapping: give its keys or its values")
    if isinstance(values, set | frozenset) and ordered:
        raise TypeError(f"{what} takes a list: a set has no order to go by")
    _refuse_table(values, what)
    if isinstance(values, np.ndarray):
        return _held_by_numpy(values, what)
    if hasattr(values, "detach"):
        values = dense_tensor(values, what)
    for lister in _LISTERS:
        if hasattr(values, lister):
            listed: list[Any] = getattr(values, lister)()
            return listed
    if not isinstance(values, Iterable):
        raise TypeError(f"{what} takes several values, not {kind_of(values)}")
    return list(values)


def _refuse_table(values: Any, what: str) -> None:
    shape = getattr(values, "shape", None)
    if isinstance(shape, tuple) and len(shape) != 1:
        raise TypeError(
            f"{what} takes one column, not {kind_of(values)} of shape {tuple(shape)}: name the column, such as "
            f"table['{what}']"
        )


def _held_by_numpy(values_N: NDArray[Any], what: str) -> list[Any]:
    if values_N.dtype.names:
        raise TypeError(f"{what} takes one column, not a structured array of {', '.join(values_N.dtype.names)}")
    # As a list, times of nanoseconds would become bare numbers.
    listed: list[Any] = list(values_N) if values_N.dtype.kind in "mM" else values_N.tolist()
    return listed


def dense_tensor(tensor: Any, what: str) -> Any:
    """A torch tensor in ordinary memory, cut off from its graph.

    Raises:
        TypeError: a sparse or nested one, or one without data.
    """
    if getattr(tensor, "is_nested", False):
        raise TypeError(f"{what} is a nested tensor: give {what}.to_padded_tensor(0.0), or list(tensor.unbind())")
    if str(getattr(tensor, "layout", "torch.strided")) != "torch.strided":
        raise TypeError(f"{what} is a sparse tensor: give {what}.to_dense()")
    if getattr(tensor, "is_meta", False):
        raise TypeError(f"{what} is a tensor on the meta device, which has a shape and no data")
    held = tensor.detach().cpu().resolve_conj().resolve_neg()
    return held.dequantize() if getattr(held, "is_quantized", False) else held


def kind_of(value: Any) -> str:
    """The type of a value in words: "a float", "an int", "a pandas Series"."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    name = kind.__name__ if library in ("builtins", "__main__") else f"{library} {kind.__name__}"
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def shown(value: Any) -> str:
    """The beginning of a value, as in code."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


# --- text ------------------------------------------------------------------------------------------------------------


def texts(values: Any, place: Place, *, ordered: bool = True) -> list[str]:
    """A column of text that no sample may lack and that is never empty: ids, class names.

    Whole numbers, UUIDs, paths and UTF-8 bytes are taken as the text that they stand for: 0 is "0".

    Raises:
        TypeError: no column, or a value of another type (a float, a truth value, a list, ...).
        ValueError: a value that is missing, empty, or cannot be written as UTF-8.
    """
    found = optional_texts(values, place, empty=True, ordered=ordered)
    for wrong, told in ((None, "is missing"), ("", "is empty text")):
        if wrong in found:
            raise ValueError(f"{place.at(found.index(wrong))} {told}")
    return found  # type: ignore[return-value]


def optional_texts(values: Any, place: Place, *, empty: bool = False, ordered: bool = True) -> list[str | None]:
    """A column of text, None where a sample has none; "" is refused unless it may be `empty`. See `texts`."""
    held = column(values, place.what, ordered=ordered)
    if not set(map(type, held)) <= {str, type(None)}:
        held = [_text(value, place, row) for row, value in enumerate(held)]
    if "" in held and not empty:
        raise ValueError(f"{place.at(held.index(''))} is empty text: None says that there is none")
    check_unicode(held, place)
    return held


def text(value: Any, what: str) -> str:
    """One text, such as an id. See `texts` for what is taken and raised."""
    return texts([value], Place(what, alone=True))[0]


def given_text(value: Any, what: str) -> str:
    """An optional text for the wire, where "" stands for none.

    Raises:
        TypeError, ValueError: as `texts` does; "" too, for it is not None.
    """
    found = optional_texts([value], Place(what, alone=True))[0]
    return "" if found is None else found


def _text(value: Any, place: Place, row: int) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{place.at(row)} is {shown(value)}, bytes that are no UTF-8: decode them") from None
    if isinstance(value, str):
        return value
    hint = ": of whole numbers with gaps make .astype('Int64') first" if isinstance(value, float) else ""
    raise TypeError(
        f"{place.at(row)} is {shown(value)}, {kind_of(value)}; text is needed, or whole numbers that stand for it{hint}"
    )


def check_unicode(values: Sequence[str | None], place: Place) -> None:
    """Raises ValueError for text that cannot be written as UTF-8: half of a surrogate pair."""
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        for row, value in enumerate(values):
            try:
                (value or "").encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{place.at(row)} is {shown(value)}, which cannot be written as UTF-8") from error


# --- numbers and JSON ------------------------------------------------------------------------------------------------


def whole(value: Any, what: str, least: int = -(1 << 31), most: int = (1 << 31) - 1) -> int:
    """A whole number that the wire has room for; numpy's will do, and so will a float without a fraction.

    Raises:
        TypeError: no number, a truth value.
        ValueError: a fraction, or beyond the range.
    """
    number = plain(value)
    if isinstance(number, bool):
        raise TypeError(f"{what} is a whole number, not {number}, a bool")
    if isinstance(number, float) and not number.is_integer():
        raise ValueError(f"{what} is a whole number, not {number}")
    try:
        given = int(number) if isinstance(number, float) else index(number)
    except TypeError:
        raise TypeError(f"{what} is a whole number, not {shown(value)}, {kind_of(value)}") from None
    if not least <= given <= most:
        raise ValueError(f"{what} is from {least:,} to {most:,}, not {shown(value)}")
    return given


def seed_number(value: Any) -> int:
    """A seed: a whole number of 64 bits from 0. See `whole` for what is raised."""
    return whole(value, "seed", 0, (1 << 64) - 1)


def number(value: Any, what: str) -> float:
    """A finite number; those of numpy will do.

    Raises:
        TypeError: no number.
        ValueError: missing, or not finite.
    """
    given = plain(value)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{what} is a number, not {shown(value)}, {kind_of(value)}")
    if not math.isfinite(given):
        raise ValueError(f"{what} is a finite number, not {value}")
    return float(given)


def json_value(value: Any, what: str) -> Any:
    """A value as JSON has it, scalars and arrays of other libraries included; what is missing is null.

    Raises:
        ValueError: NaN or infinity, which JSON has not.
        TypeError: what JSON has no word for.
    """
    match value:
        case None | bool() | str():
            return plain(value)
        case Mapping():
            return {_json_key(key, what): json_value(item, f"{what}[{key!r}]") for key, item in value.items()}
        case list() | tuple():
            return [json_value(item, f"{what}[{row}]") for row, item in enumerate(value)]
        case float() | np.floating():
            return _finite(float(value), what)
    simple = plain(value)
    if simple is not value:
        return json_value(simple, what)
    if isinstance(value, int):
        return value
    if hasattr(value, "__array__") or hasattr(value, "to_pylist"):
        return json_value(column(value, what), what)
    raise TypeError(f"{what} is {shown(value)}, {kind_of(value)}, which JSON has no word for: make it text or a number")


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}, which JSON does not have: leave it out, or write None")
    return value


def _json_key(key: Any, what: str) -> str:
    name = plain(key)
    if isinstance(name, str):
        return name
    if isinstance(name, int) and not isinstance(name, bool):
        return str(name)
    raise TypeError(f"{what} has the key {shown(key)}, {kind_of(key)}: the keys of JSON are text")

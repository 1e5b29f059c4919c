"""Attributes: scalars by name, as columns of one type each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from assay.client._values import Place, check_unicode, column, kind_of, shown
from assay.client.filters import AttributeScalar
from assay.v1 import pools_pb2

_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class AttributeColumn:
    """One attribute: the field of its type, a value for every sample, and which samples have it (None: all)."""

    name: str
    field: Literal["strings", "doubles", "int64s", "bools"]
    values: Sequence[AttributeScalar]
    present: Sequence[bool] | None

    def message(self, part: slice) -> pools_pb2.AttributeColumn:
        """The message of a part of the column."""
        message = pools_pb2.AttributeColumn(name=self.name, present=self.present[part] if self.present else ())
        field = getattr(message, self.field)
        field.values.extend(self.values[part])
        return message


def attribute_columns(attributes: Any, ids: Sequence[str], first: int = 0) -> list[AttributeColumn]:
    """The columns of a mapping or a data frame; those that no sample has are left out.

    Raises:
        TypeError: neither a mapping nor a table, a name that is no text, or a value that no attribute can have.
        ValueError: two columns of one name, a column of mixed types, or a number out of range.
    """
    if attributes is None:
        return []
    columns = [
        attribute_column(name, values, Place(f"attribute {name!r}", ids, first)) for name, values in _named(attributes)
    ]
    return [each for each in columns if each is not None]


def named_columns(attributes: Any) -> list[str]:
    """Names of the columns of a mapping or a data frame, those that no sample has too. Raises as attribute_columns."""
    return [] if attributes is None else [name for name, _ in _named(attributes)]


def _named(attributes: Any) -> list[tuple[str, Any]]:
    if isinstance(attributes, Mapping) or hasattr(attributes, "items"):
        named = list(attributes.items())
    elif hasattr(attributes, "column_names"):  # a table of Arrow
        # By position: two columns may bear one name, which the check below refuses.
        named = [(name, attributes.column(at)) for at, name in enumerate(attributes.column_names)]
    elif hasattr(attributes, "get_columns"):  # a data frame of polars
        named = [(each.name, each) for each in attributes.get_columns()]
    else:
        raise TypeError(f"attributes are columns by name, or a data frame, not {kind_of(attributes)}")
    for name, _values in named:
        if not isinstance(name, str):
            raise TypeError(f"attributes has the name {shown(name)}, {kind_of(name)}; names are text")
    twice = next((name for name, count in Counter(name for name, _ in named).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"attributes has two columns of the name {twice!r}: rename one, or leave it out")
    return named


def attribute_column(name: str, values: Any, place: Place | None = None) -> AttributeColumn | None:
    """One attribute as a column of one type; None where no sample has it. Whole numbers beside others become floats.

    Raises:
        TypeError: no column, or a value of a type that no attribute has.
        ValueError: values of mixed types, or a number out of range.
    """
    where = Place(f"attribute {name!r}") if place is None else place
    scalars = [str(value) if isinstance(value, UUID) else value for value in column(values, where.what)]
    kinds = {type(value) for value in scalars if value is not None}
    if not kinds:
        return None
    if kinds == {int, float}:
        kinds, scalars = {float}, [None if value is None else float(value) for value in scalars]
    if len(kinds) != 1 or not kinds <= _FIELDS.keys():
        raise _unfit(scalars, kinds, where)
    kind = kinds.pop()
    if kind is str:
        check_unicode(scalars, where)
    _check_range(kind, scalars, where)
    present = None if None not in scalars else [value is not None for value in scalars]
    return AttributeColumn(name, _FIELDS[kind], [kind() if value is None else value for value in scalars], present)


_FIELDS: Final[Mapping[type, Literal["strings", "doubles", "int64s", "bools"]]] = {
    str: "strings",
    float: "doubles",
    int: "int64s",
    bool: "bools",
}


def _unfit(values: Sequence[Any], kinds: set[type], place: Place) -> TypeError | ValueError:
    for row, value in enumerate(values):
        if value is not None and type(value) not in _FIELDS:
            return TypeError(
                f"{place.at(row)} is {shown(value)}, {kind_of(value)}; an attribute is text, a number or a truth "
                "value: make it one, a time by .isoformat() or .timestamp()"
            )
    earliest = next(value for value in values if value is not None)
    row = next(row for row, value in enumerate(values) if value is not None and type(value) is not type(earliest))
    mixed = ", ".join(sorted(kind.__name__ for kind in kinds))
    return ValueError(
        f"{place.what} mixes {mixed}: {place.at(row)} is {shown(values[row])}, {kind_of(values[row])}, after "
        f"{kind_of(earliest)}"
    )


def _check_range(kind: type, values: Sequence[Any], place: Place) -> None:
    """Raises ValueError for what the wire has no room for: infinity, or more than 64 bits."""
    for row, value in enumerate(values if kind in (int, float) else ()):
        if value is None:
            continue
        if kind is float and not math.isfinite(value):
            raise ValueError(f"{place.at(row)} is {value}: a number is finite")
        if kind is int and not _SMALLEST <= value <= _LARGEST:
            raise ValueError(f"{place.at(row)} is {shown(value)}, beyond 64 bits: make it text or a float")

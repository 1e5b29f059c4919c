"""Conditions on samples."""

from dataclasses import dataclass

from assay.server.core.records.arrays import Scalar


@dataclass(frozen=True, slots=True)
class Compare:
    """attribute op value, op one of "==", "!=", "<", "<=", ">", ">="."""

    attribute: str
    op: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """attribute in values."""

    attribute: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every filter holds."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one filter holds."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The filter does not hold."""

    filter: "Filter"


@dataclass(frozen=True, slots=True)
class HasId:
    """The sample has one of these ids."""

    ids: tuple[str, ...]


Filter = Compare | OneOf | AllOf | AnyOf | Not | HasId

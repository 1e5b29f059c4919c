"""Resource names, and the words that stand for enum values."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

from assay.client._values import Place, text, texts

V_co = TypeVar("V_co", bound=int, covariant=True)


def pool_name(pool: str) -> str:
    """The resource name of a pool given by id or by name.

    Raises:
        TypeError: no text.
        ValueError: neither an id nor "pools/{id}".
    """
    pool_id = text(pool, "pool").removeprefix("pools/")
    if not pool_id or "/" in pool_id:
        raise ValueError(f"{pool!r} is no pool: give an id such as 'news' or a name such as 'pools/news'")
    return f"pools/{pool_id}"


def sample_name(pool: str, sample_id: str) -> str:
    """The resource name of a sample: the id stands in it as it is, slashes too. Raises as `pool_name`."""
    return f"{pool_name(pool)}/samples/{sample_id}"


class Named(Protocol):
    """Anything with a resource name."""

    @property
    def name(self) -> str:
        """The resource name."""


def resource_name(resource: "str | Named") -> str:
    """The resource name of something, or the name itself.

    Raises:
        TypeError: neither a text nor anything with a name.
        ValueError: an empty name.
    """
    return text(getattr(resource, "name", resource), "a resource's name")


def fresh_request_id(request_id: str | None) -> str:
    """The caller's idempotency key, or a new one, so that sending the same request again is safe.

    Raises:
        ValueError: an empty one, which would be none.
    """
    return str(uuid.uuid4()) if request_id is None else text(request_id, "request_id")


def id_list(ids: Iterable[Any], what: str = "ids") -> list[str]:
    """Several ids in whatever holds them; what else than text is taken for an id is said at `texts`.

    Raises:
        TypeError: one string, whose letters would be taken for ids, or an entry of another type.
        ValueError: an entry that is missing or empty.
    """
    return texts(ids, Place(what), ordered=False)


class WireEnum(Protocol[V_co]):
    """An enum of the wire, whose values are of type V."""

    @property
    def DESCRIPTOR(self) -> Any:
        """Its description."""

    def items(self) -> Sequence[tuple[str, V_co]]:
        """Names and values."""


def enum_value(enum: WireEnum[V_co], word: str) -> V_co:
    """The value of an enum by its word: "inner_product" for METRIC_INNER_PRODUCT.

    Raises:
        ValueError: no such word.
    """
    words = {_word(enum, name): number for name, number in enum.items()}
    words.pop("unspecified")
    if word not in words:
        raise ValueError(f"{word!r} is none of {', '.join(sorted(words))}")
    return words[word]


def enum_word(enum: WireEnum[int], number: int) -> str:
    """The word of an enum value; "unknown" for values of a newer server."""
    known = {value: name for name, value in enum.items()}
    return _word(enum, known[number]) if number in known else "unknown"


def _word(enum: WireEnum[int], name: str) -> str:
    """The name less the prefix that all names of the enum share: its first name without UNSPECIFIED."""
    first: str = enum.DESCRIPTOR.values_by_number[0].name
    return name.removeprefix(first.removesuffix("UNSPECIFIED")).lower()

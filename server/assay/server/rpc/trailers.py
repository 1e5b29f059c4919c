"""What fits beside a status: gRPC sends errors as HTTP/2 trailers, for which callers reserve 8 KiB.

A status whose trailers are larger never arrives: the caller is told RESOURCE_EXHAUSTED of the metadata instead. So
every text that quotes a caller is cut here, once, whoever wrote it. Both ends are kept: the beginning says what is
wrong, the end what to do about it.
"""

from collections.abc import Callable, Mapping

# Sizes on the wire. The message travels twice: as text, percent-encoded, and in the details, which base64 may make a
# third larger. Together 1,200 + (1,200 + 2,560 + what surrounds them) * 4 / 3 bytes stay below 7 KiB.
MESSAGE_BYTES = 1200
METADATA_BYTES = 2560
REASON_CHARACTERS = 63
_HEAD_SHARE = 2 / 3


def fitting_message(text: str) -> str:
    """A message that is sent whole."""
    return shortened(_sendable(text), MESSAGE_BYTES)


def fitting_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """Facts that are sent whole, in their order. Short values are kept as they are at the expense of the long ones."""
    room, left = METADATA_BYTES, len(facts)
    kept: dict[str, str] = {}
    for key in sorted(facts, key=lambda key: len(facts[key])):
        kept[key] = shortened(_sendable(facts[key]), max(0, room // left - len(key.encode())), _utf8_cost)
        room -= len(key.encode()) + len(kept[key].encode())
        left -= 1
    return {key: kept[key] for key in facts}


def _sendable(text: str) -> str:
    """A text without halves of characters, which UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode()


def _percent_cost(character: str) -> int:
    """Bytes of a character in grpc-message: one for what is printable ASCII, else three for each of its bytes."""
    return 1 if " " <= character <= "~" and character != "%" else 3 * _utf8_cost(character)


def _utf8_cost(character: str) -> int:
    return len(character.encode())


def shortened(text: str, most: int, cost: Callable[[str], int] = _percent_cost) -> str:
    """A text of at most `most` bytes on the wire, its middle left out if it must be."""
    if len(text) <= most and sum(map(cost, text)) <= most:
        return text
    mark = f" ...({len(text):,} characters in all)... "
    room = most - len(mark)
    if room < 2:
        return text[: _count(text[:most], most, cost)]
    head = _count(text[:room], int(room * _HEAD_SHARE), cost)
    tail = _count(text[: -room - 1 : -1], room - int(room * _HEAD_SHARE), cost)
    return text[:head] + mark + text[len(text) - tail :]


def _count(characters: str, most: int, cost: Callable[[str], int]) -> int:
    """How many of the first characters cost no more than `most` bytes."""
    spent = 0
    for count, character in enumerate(characters):
        spent += cost(character)
        if spent > most:
            return count
    return len(characters)

"""Calls as data: what to send, to which method of the table, and how to read the answer. Both clients run these."""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from assay.v1.method import Method

T = TypeVar("T", covariant=True)
RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)
MessageT = TypeVar("MessageT", bound=Message, contravariant=True)
ResultT = TypeVar("ResultT")


class Collector(Protocol[MessageT, T]):
    """Takes the messages of one stream in order, then gives the result."""

    def add(self, message: MessageT) -> None:
        """Take the next message."""

    def finish(self) -> T:
        """The result of the whole stream."""

    def discard(self) -> None:
        """Undo: the stream broke."""


@dataclass(frozen=True, slots=True)
class Unary(Generic[T]):
    """One request, one reply."""

    method: Method[Any, Any]
    request: Message
    parse: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """One request per page; the request has a page_token, each reply a next_page_token."""

    method: Method[Any, Any]
    request: Message
    items: Callable[[Any], Iterable[T]]


@dataclass(frozen=True, slots=True)
class Download(Generic[T]):
    """One request, a stream of replies. With `restartable` a new collector can start over."""

    method: Method[Any, Any]
    request: Message
    collector: Callable[[], Collector[Any, T]]
    restartable: bool = True


@dataclass(frozen=True, slots=True)
class Upload(Generic[T]):
    """A stream of requests, one reply. With `restartable` the same messages can be sent again from the first; with
    `counted` its errors say how many samples are stored at least."""

    method: Method[Any, Any]
    messages: Callable[[], Iterator[Message]]
    parse: Callable[[Any], T]
    restartable: bool = True
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Feed(Generic[T]):
    """One request, replies without an end. `parse` gives None for what is not passed on; `after` gives the request that
    goes on after a reply, where the stream broke."""

    method: Method[Any, Any]
    request: Message
    parse: Callable[[Any], T | None]
    after: Callable[[Any, Any], Message]


@dataclass(frozen=True, slots=True)
class Series(Generic[T]):
    """Calls of one reply each, one after the other, and one result of all: `steps` yields each call, is sent what it
    gave (or gets its error), and returns the result."""

    steps: Callable[[], Generator[Unary[Any], Any, T]]


def unary(method: Method[RequestT, ReplyT], request: RequestT, parse: Callable[[ReplyT], ResultT]) -> Unary[ResultT]:
    """A `Unary` whose parts are checked to fit each other."""
    return Unary(method, request, parse)


def pages(
    method: Method[RequestT, ReplyT], request: RequestT, items: Callable[[ReplyT], Iterable[ResultT]]
) -> Pages[ResultT]:
    """A `Pages` whose parts are checked to fit each other."""
    return Pages(method, request, items)


def download(
    method: Method[RequestT, ReplyT],
    request: RequestT,
    collector: Callable[[], Collector[ReplyT, ResultT]],
    restartable: bool = True,
) -> Download[ResultT]:
    """A `Download` whose parts are checked to fit each other."""
    return Download(method, request, collector, restartable)


def upload(
    method: Method[RequestT, ReplyT],
    messages: Callable[[], Iterator[RequestT]],
    parse: Callable[[ReplyT], ResultT],
    restartable: bool = True,
    counted: bool = False,
) -> Upload[ResultT]:
    """An `Upload` whose parts are checked to fit each other."""
    return Upload(method, messages, parse, restartable, counted)


def feed(
    method: Method[RequestT, ReplyT],
    request: RequestT,
    parse: Callable[[ReplyT], ResultT | None],
    after: Callable[[RequestT, ReplyT], RequestT],
) -> Feed[ResultT]:
    """A `Feed` whose parts are checked to fit each other."""
    return Feed(method, request, parse, after)


def nothing(_reply: Message) -> None:
    """The result of calls whose reply is empty."""

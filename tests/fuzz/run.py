"""Sends hostile requests to a real server, many at once, and notes how it answers."""

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import EncodeError, Message

from tests.fuzz.corpus import CORPUS, WEIGHTS
from tests.fuzz.mutations import garble, mutate
from tests.fuzz.world import World

AT_ONCE = 12
DEADLINE_SECONDS = 20.0
GRACE_SECONDS = 15.0
MAX_REPLIES = 200
STREAMS_OUT = {
    "/assay.v1.Mining/Score", "/assay.v1.Labeling/ExportLabels", "/grpc.health.v1.Health/Watch",
    "/assay.v1.Changes/WatchPool", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}  # fmt: skip
# Streams that end only when their callers leave.
WATCHES = {"/grpc.health.v1.Health/Watch", "/assay.v1.Changes/WatchPool"}
ENDLESS = WATCHES | {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}
BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE)


@dataclass(frozen=True)
class Call:
    """One hostile call: its number, method and the bytes of its requests."""

    number: int
    method: str
    requests: tuple[bytes, ...]


@dataclass
class Tally:
    """How the server answered."""

    calls: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Call, str]] = field(default_factory=list)
    bare: Counter[str] = field(default_factory=Counter)


class Fuzz:
    """Calls that hang on a seed and a number alone, but for the names that the server made up."""

    def __init__(self, seed: int, world: World) -> None:
        self._seed = seed
        self._world = world
        self._methods = sorted(CORPUS)
        self._weights = [WEIGHTS.get(method, 20) for method in self._methods]
        self.tally = Tally()

    def call(self, number: int) -> Call:
        """The call of a number."""
        rng = Random(f"{self._seed}/{number}")
        (method,) = rng.choices(self._methods, self._weights)
        messages = CORPUS[method](rng, self._world)
        if rng.random() < 0.85:
            mutate(rng, rng.choice(messages))
        if len(messages) > 1 and rng.random() < 0.1:
            rng.shuffle(messages)
        requests = [_encoded(message) for message in messages]
        if rng.random() < 0.1:
            place = rng.randrange(len(requests))
            requests[place] = garble(rng, requests[place])
        return Call(number, method, tuple(requests))

    async def run(self, target: str, numbers: Iterator[int]) -> None:
        """Sends calls, so many at once, until the numbers end or the server does."""
        options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
        with grpc.insecure_channel(target, options=options) as uploads:
            async with grpc.aio.insecure_channel(target, options=options) as channel:
                await asyncio.gather(*(self._work(channel, uploads, numbers) for _ in range(AT_ONCE)))

    async def _work(self, channel: grpc.aio.Channel, uploads: grpc.Channel, numbers: Iterator[int]) -> None:
        for number in numbers:
            call = self.call(number)
            try:
                async with asyncio.timeout(DEADLINE_SECONDS + GRACE_SECONDS):
                    replies = await _send(channel, uploads, call)
            except grpc.RpcError as error:
                self._refused(call, error)
            except TimeoutError:
                self._note(call, "HANG")
                self.tally.failures.append((call, "the call did not end after its deadline"))
            else:
                self._note(call, "OK")
                self._world.learn(call.method, replies)

    def _refused(self, call: Call, error: Any) -> None:
        code = error.code()
        self._note(call, code.name)
        if code in BROKEN and not _admits(error):
            self.tally.failures.append((call, f"{code.name}: {error.details()}"))
        if not any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ()):
            self.tally.bare[f"{code.name} {call.method}"] += 1

    def _note(self, call: Call, code: str) -> None:
        self.tally.calls += 1
        self.tally.codes[code] += 1
        self.tally.methods[call.method] += 1


def _admits(error: Any) -> bool:
    """UNAVAILABLE that the server said itself, with a reason: it was busy or could not reach something, and lives."""
    told = any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ())
    return error.code() is grpc.StatusCode.UNAVAILABLE and told


def _encoded(message: Message) -> bytes:
    try:
        return message.SerializeToString()
    except (EncodeError, ValueError):
        return message.SerializePartialToString()


async def _send(channel: grpc.aio.Channel, uploads: grpc.Channel, call: Call) -> list[bytes]:
    """Replies of a call, at most so many. Raises RpcError.

    Streams of requests go over a blocking channel: where the server refuses one midway, grpc.aio's client often tells
    of its own failed write instead.
    """
    streaming_in = len(call.requests) > 1 or call.method in ENDLESS - WATCHES
    if call.method in STREAMS_OUT:
        make = channel.stream_stream if streaming_in else channel.unary_stream
        stream = make(call.method)(_sent(call) if streaming_in else call.requests[0], timeout=DEADLINE_SECONDS)
        return await _read(stream, 1 if call.method in ENDLESS else MAX_REPLIES)
    if streaming_in:
        send = uploads.stream_unary(call.method)
        return [await asyncio.to_thread(send, iter(call.requests), timeout=DEADLINE_SECONDS)]
    return [await channel.unary_unary(call.method)(call.requests[0], timeout=DEADLINE_SECONDS)]


async def _sent(call: Call) -> AsyncIterator[bytes]:
    for request in call.requests:
        yield request


async def _read(stream: "grpc.aio.Call", most: int) -> list[bytes]:
    """The first replies; then it leaves."""
    replies: list[bytes] = []
    async for reply in stream:
        replies.append(reply)
        if len(replies) == most:
            stream.cancel()
            break
    return replies


def memory_kib(pid: int) -> int:
    """Memory of a process that is its own (anonymous), in KiB."""
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def keep(folder: Path, failures: list[tuple[Call, str]]) -> None:
    """Writes down the requests of calls that failed, so that they can be sent again."""
    folder.mkdir(parents=True, exist_ok=True)
    for call, what in failures[:50]:
        for place, request in enumerate(call.requests):
            (folder / f"{call.number}-{place}.bin").write_bytes(request)
        (folder / f"{call.number}.txt").write_text(f"{call.method}\n{what}\n")


def environment(name: str, default: int) -> int:
    """A whole number from the environment."""
    return int(os.environ.get(name, "") or default)

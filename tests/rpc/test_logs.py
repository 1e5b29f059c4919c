"""Logs: nobody waits for who does not read them, and nobody writes another's line."""

import contextlib
import io
import json
import logging
import os

import structlog

from assay.server.app import logs
from assay.server.app.logs import Writer


def test_a_blocked_pipe_makes_nobody_wait_and_what_is_lost_is_counted():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading, "rb") as pipe:
        writer = Writer(logs._emitter(stream), most=100)
        line = "x" * 1023 + "\n"
        for _ in range(1000):  # a pipe holds 64 of them
            writer.write(line)
        assert not writer.drain(0)
        assert writer.dropped > 500
        kept = 1000 - writer.dropped
        read = b""
        while read.count(b"\n") < kept:
            read += pipe.read1(65536)
        writer.write("after\n")
        while b"after\n" not in read:
            read += pipe.read1(65536)
        assert read.count(line.encode()) == kept
        assert f"{writer.dropped} log lines were lost".encode() in read
        assert writer.drain(30)


def test_a_stream_that_fails_fails_nobody():
    def full(text):
        raise OSError(28, "No space left on device")

    writer = Writer(full)
    writer.write("lost\n")
    assert writer.drain(30)


@contextlib.contextmanager
def _configured(style, monkeypatch):
    """Logging as a server has it, into a buffer; as it was afterwards."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    buffer = io.StringIO()
    monkeypatch.setattr("sys.stderr", buffer)
    logs.configure("warning", style)

    def told():
        assert logs._writers[-1].drain(30)
        return buffer.getvalue()

    try:
        yield told
    finally:
        structlog.configure(**before)
        root.handlers[:], root.level = handlers, level


FORGED = 'x\n2026-01-01 [info] audit who=root\x1b[2K\x9b1A\u2028"}'


def test_no_value_begins_a_line_or_moves_the_cursor(monkeypatch):
    for style in ("json", "console"):
        with _configured(style, monkeypatch) as told:
            structlog.get_logger("assay.rpc").warning("rpc", message=FORGED)
            logging.getLogger("assay.audit").info("audit", extra={"pool": FORGED})
        text = told()
        assert text.count("\n") == 2
        assert not {"\x1b", "\x9b", "\u2028"} & set(text)
        if style == "json":
            assert [json.loads(line).get("message") or json.loads(line)["pool"] for line in text.splitlines()] == [
                FORGED,
                FORGED,
            ]


def test_audit_lines_are_told_at_any_level(monkeypatch):
    with _configured("json", monkeypatch) as told:
        structlog.get_logger("assay.rpc").info("rpc")
        logging.getLogger("assay.audit").info("audit", extra={"who": "ann"})
    (line,) = told().splitlines()
    assert (json.loads(line)["event"], json.loads(line)["who"]) == ("audit", "ann")

"""Labeling with nothing but the command: keys of a terminal, or lines; and the commands of reviewers."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from assay.client import Classification, Client, MultiLabel
from assay.client.cli import main
from assay.client.testing import ServerProcess
from tests.client.test_cli import Assay, AssayJson, assay, assay_json

__all__ = ["assay", "assay_json"]


@pytest.fixture
def client(assay_server: ServerProcess) -> Iterator[Client]:
    with assay_server.client() as client:
        yield client


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-0123456789")


def fill(client: Client, pool: str, task: Any, count: int = 6, **options: Any) -> None:
    """Samples "d0", "d1", ... of a text each; the first tries to clear the screen."""
    client.create_pool(pool, task=task, **options)
    texts = ["\x1b[2Jtext 0", *(f"text {row}" for row in range(1, count))]
    vectors_ND = np.random.default_rng(7).normal(size=(count, 4)).astype(np.float32)
    client.add_samples(pool, [f"d{row}" for row in range(count)], embeddings=vectors_ND, payloads=texts)


def said(client: Client, pool: str, worker: str = "ann") -> list[tuple[str, Any]]:
    events = client.list_annotations(pool, worker=worker)
    return [(each.verb, each.value) for each in events]


class Person:
    """Somebody at a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.screen = ""

    def sees(self, text: str) -> None:
        """Waits until a text is on the screen, and forgets what came before it."""
        end = time.monotonic() + 60
        while text not in self.screen:
            assert time.monotonic() < end, self.screen
            if select.select([self._terminal], [], [], 1)[0]:
                self.screen += os.read(self._terminal, 4096).decode(errors="replace")
        before, _, self.screen = self.screen.partition(text)
        assert "\x1b" not in before, "what a payload says is no command for the terminal"

    def presses(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())


@contextmanager
def at_a_terminal(
    server: ServerProcess, *arguments: str, status: int = 0
) -> Iterator[tuple[Person, "subprocess.Popen[bytes]"]]:
    """The command at a terminal, which must end with a status."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "assay.client.cli", "--server", server.target, *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        yield Person(ours), process
        assert process.wait(60) == status
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_person_labels_with_keys(assay_server: ServerProcess, client: Client, pool: str) -> None:
    fill(client, pool, Classification(["ant", "bee"]))
    with at_a_terminal(assay_server, "label", "next", pool, "--worker", "ann", "--size", "4") as (person, _):
        person.sees("[1] d")
        person.sees("1 ant   2 bee   s skip   u undo   q quit")
        person.presses("1")
        person.sees("[2] d")
        person.presses("\x1b[A" + "9")  # an arrow is passed over; 9 is none of the keys
        person.sees("is none of")
        person.presses("2")
        person.sees("[3] d")
        person.presses("u")
        person.sees("[2] d")
        person.presses("1")
        person.sees("[3] d")
        person.presses("s")
        person.sees("[4] d")
        person.presses("q")
        person.sees("3 done")
    assert said(client, pool) == [
        ("annotate", "ant"), ("annotate", "bee"), ("withdraw", None), ("annotate", "ant"), ("skip", None),
    ]  # fmt: skip
    counts = client.get_pool(pool).counts
    assert (counts.labeled, counts.leased, counts.unlabeled) == (2, 0, 4)
    assert list(client.list_leases(pool)) == []
    # What was not shown is offered again, what was skipped is not.
    assert len(client.next_batch(pool, "ann", 6).ids) == 3


def test_several_classes_are_put_on_and_off(assay_server: ServerProcess, client: Client, pool: str) -> None:
    fill(client, pool, MultiLabel(["sad", "funny"]), count=2)
    with at_a_terminal(assay_server, "label", "next", pool, "--worker", "ann") as (person, _):
        person.sees("Enter stores")
        person.presses("12")
        person.sees("sad, funny")
        person.presses("1")
        person.sees("  funny")
        person.presses("\r")
        person.sees("[2] d")
        person.presses("\r")
        person.sees("nothing is left to label")
        person.sees("2 done")
    assert said(client, pool) == [("annotate", ("funny",)), ("annotate", ())]


def test_ctrl_c_gives_leases_back(assay_server: ServerProcess, client: Client, pool: str) -> None:
    fill(client, pool, Classification(["ant", "bee"]))
    command = ("label", "next", pool, "--worker", "ann")
    with at_a_terminal(assay_server, *command, status=130) as (person, process):
        person.sees("q quit")
        assert len(list(client.list_leases(pool))) == 1
        process.send_signal(signal.SIGINT)
    assert list(client.list_leases(pool)) == []
    assert client.get_pool(pool).counts.unlabeled == 6


def lines(monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in given)))


def test_lines_of_a_file_are_answers(client: Client, assay: Assay, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(client, pool, Classification([f"class {number}" for number in range(60)]))
    lines(monkeypatch, "class 7", "class 1", "class 59", "s", "u", "class 3")
    out = assay("label", "next", pool, "--worker", "ann", "--size", "2")
    assert "'class 1' is none of" not in out
    assert "\x1b" not in out
    assert [value for _, value in said(client, pool)] == ["class 7", "class 1", "class 59", None, None, "class 3"]
    assert "4 done" in out
    assert list(client.list_leases(pool)) == []


def test_tasks_without_classes_are_told_how(
    client: Client, assay_server: ServerProcess, pool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from assay.client.tasks import Regression

    fill(client, pool, Regression(["age"]))
    assert main(["--server", assay_server.target, "label", "next", pool, "--worker", "ann"]) == 2
    assert "assay annotate --from" in capsys.readouterr().err


def test_a_reviewer_works_with_the_command(client: Client, assay: Assay, assay_json: AssayJson, pool: str) -> None:
    fill(client, pool, Classification(["ant", "bee"]), annotations_per_sample=2, policy="majority")
    client.annotate(pool, {"d0": "ant", "d1": "ant", "d2": "ant"}, "ann")
    client.annotate(pool, {"d0": "bee", "d1": "bee", "d2": "bee"}, "bob")
    listed = assay_json("review", "list", pool)["samples"]
    assert [each["sample_id"] for each in listed] == ["d0", "d1", "d2"]
    assert listed[0]["annotations"] == {"ann": "ant", "bob": "bee"}
    rita = ("--worker", "rita")
    assert assay_json("review", "set", pool, "d0=ant", *rita, "--comment", "clearly")["labeled"] == 1
    assert assay_json("review", "accept", pool, "d1=bob", *rita)["decided"] == 1
    assert {label.sample_id: label.value for label in client.list_labels(pool)} == {"d0": "ant", "d1": "bee"}
    assert "decided 1 samples" in assay("review", "reject", pool, "d2", *rita, "--yes")
    assert "decided 1 samples" in assay("review", "retract", pool, "d0", *rita)
    assert assay_json("annotation", "withdraw", pool, "d1", "--worker", "root", "--of", "ann")["withdrawn"] == 1
    assert assay_json("annotation", "undo", pool, "--worker", "root")["sample_ids"] == ["d1"]
    verbs = [each["verb"] for each in assay_json("annotation", "list", pool, "--sample", "d1")["annotations"]]
    assert verbs == ["annotate", "annotate", "verdict", "withdraw", "annotate"]
    assert "clearly" in assay("annotation", "list", pool, "--worker", "rita")
    assert assay_json("sample", "reopen", pool, "d1", "--worker", "root", "--yes")["changed"] == 1
    assert assay_json("sample", "exclude", pool, "d1", "--worker", "root")["changed"] == 1
    assert assay_json("sample", "include", pool, "d1", "--worker", "root")["changed"] == 1

"""The clock that leases are counted on: whatever people set theirs to, it goes on."""

import json
from pathlib import Path

import pytest

from assay.server.adapters.clock import SystemClock

DAY = 86_400.0


class Wall:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clock.json"


def reboot(path: Path) -> None:
    """As the file is found after the machine was started anew."""
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "boot": "another"}))


@pytest.mark.parametrize("jump", [DAY, -DAY, -3 * DAY, 400 * DAY])
def test_setting_the_clock_does_not_move_it(path: Path, wall: Wall, jump: float) -> None:
    clock = SystemClock(path, wall)
    before = clock.steady()
    wall.time += jump
    assert before <= clock.steady() < before + 60
    assert clock.now() == wall.time
    again = SystemClock(path, wall)
    assert before <= again.steady() < before + 60, "a restart goes on where it was"


def test_it_begins_with_the_time_of_day(path: Path, wall: Wall) -> None:
    assert wall.time <= SystemClock(path, wall).steady() < wall.time + 60


def test_a_reboot_takes_what_passed_from_the_wall_clock(path: Path, wall: Wall) -> None:
    before = SystemClock(path, wall).steady()
    reboot(path)
    wall.time += 600
    assert before + 600 <= SystemClock(path, wall).steady() < before + 660


def test_a_reboot_with_a_clock_set_back_does_not_go_back(path: Path, wall: Wall) -> None:
    before = SystemClock(path, wall).steady()
    reboot(path)
    wall.time -= DAY
    assert before <= SystemClock(path, wall).steady() < before + 60


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot": 1}', b"\xff\x00"])
def test_a_file_that_cannot_be_read_is_a_first_start(path: Path, wall: Wall, content: bytes) -> None:
    path.write_bytes(content)
    assert wall.time <= SystemClock(path, wall).steady() < wall.time + 60


def test_a_file_that_cannot_be_written_is_done_without(tmp_path: Path, wall: Wall) -> None:
    (tmp_path / "file").touch()
    clock = SystemClock(tmp_path / "file" / "clock.json", wall)
    clock.keep()
    assert clock.steady() >= wall.time


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_what_is_shown_follows_the_wall_clock(path: Path, wall: Wall, jump: float) -> None:
    clock = SystemClock(path, wall)
    end = clock.steady() + 60
    shown = clock.shown(end)
    assert clock.shown(end) == shown, "said twice, with the same digits"
    assert abs(shown - (wall.time + 60)) < 1
    wall.time += jump
    assert clock.shown(end) - shown == jump

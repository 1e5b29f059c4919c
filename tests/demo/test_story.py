"""The whole demo, small: needs its downloads, so it is not part of every test run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.options import ROOT
from demo.story import main

RUN = [sys.executable, str(ROOT / "demo/run.py"), "--quick"]


def leftovers(folder: Path) -> list[str]:
    return sorted(
        path.name for path in folder.iterdir() if path.name not in ("server.log", "report.json", "curves.png")
    )


def test_downloads_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and a way out, no traceback, nothing written."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["--quick", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == 1
    finally:
        signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr().out
    assert "cannot download" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_quick_demo(tmp_path: Path) -> None:
    done = subprocess.run([*RUN, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"margin", "random"}
    for curve in report.values():
        assert curve["labels"] == [40, 60, 80]
        assert len(curve["accuracy"]) == 1
        # Guessing gives 1 in 20.
        assert all(accuracy > 0.2 for accuracy in curve["accuracy"][0])
    assert report["margin"]["accuracy"][0][0] == report["random"]["accuracy"][0][0]
    assert leftovers(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_demo_stops_its_server(tmp_path: Path, sent: signal.Signals) -> None:
    process = subprocess.Popen([*RUN, "--out", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "embedded by the server" not in (line := process.stdout.readline()):
        assert line, "it ended too early"
    process.send_signal(sent)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "stopped" in (tmp_path / "server.log").read_text().splitlines()[-1]
    assert leftovers(tmp_path) == []

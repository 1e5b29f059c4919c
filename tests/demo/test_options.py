"""The demo's command line."""

from pathlib import Path

import pytest

from demo.options import parse


def test_defaults_are_what_the_readme_says() -> None:
    options = parse([])
    assert options.docs >= 2000
    assert options.test_docs >= 1000
    assert options.seeds >= 3
    assert options.schedule.labels == [40, 60, 80, 100, 120, 140, 160, 180, 200]
    assert options.out.name == "demo-out"
    assert not options.keep_data


def test_quick_is_only_a_default(tmp_path: Path) -> None:
    options = parse(["--quick", "--docs", "100", "--rounds", "3", "--out", str(tmp_path), "--keep-data"])
    assert (options.docs, options.seeds, options.schedule.rounds, options.out) == (100, 1, 3, tmp_path)
    assert options.keep_data


@pytest.mark.parametrize(
    "argv",
    [
        ["--docs", "199"],
        ["--docs", "20000"],
        ["--test-docs", "0"],
        ["--seeds", "0"],
        ["--rounds", "0"],
        ["--docs", "x"],
    ],
)
def test_nonsense_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(argv)
    assert end.value.code == 2
    assert argv[0] in capsys.readouterr().err

"""What the demo writes and says, from curves made by hand."""

import json
from io import StringIO
from pathlib import Path

from matplotlib import image
from rich.console import Console, RenderableType

from assay.client import Batch, Lease, Pick, Plan, Prediction, Provenance, Sample, ScorePart
from demo.curves import Curves
from demo.plot import plot_curves
from demo.report import curves_table, picks_table, timings_table, verdict, why, write_report
from demo.rounds import Schedule, Stopwatch

LABELS = [40, 60, 80]
MARGIN = Curves.of(LABELS, [[0.3, 0.5, 0.7], [0.3, 0.4, 0.5]])
RANDOM = Curves.of(LABELS, [[0.3, 0.4, 0.5], [0.3, 0.4, 0.5]])


def shown(renderable: RenderableType) -> str:
    output = StringIO()
    Console(file=output, width=200).print(renderable)
    return output.getvalue()


def sample(text: str) -> Sample:
    return Sample("train-00007", "", text.encode(), "text/plain", {}, "leased", None, 7)


def pick(text: str = "re brakes") -> Pick:
    guesses = (Prediction("rec.autos", 0.31), Prediction("rec.motorcycles", 0.3))
    return Pick(sample(text), 1, 0.99, (ScorePart("margin", 0.99),), guesses)


def batch(*picks: Pick) -> Batch:
    origin = Provenance("pools/news/models/b", "pools/news/models/h9", "head", "s", 12, "ab" * 32, 8, 1234)
    return Batch(Lease("pools/news/leases/1", 1), picks, Plan.preset("margin"), origin, {})


def test_report_has_one_list_per_seed(tmp_path: Path) -> None:
    write_report({"margin": MARGIN, "random": RANDOM}, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "margin": {"labels": LABELS, "accuracy": [[0.3, 0.5, 0.7], [0.3, 0.4, 0.5]]},
        "random": {"labels": LABELS, "accuracy": [[0.3, 0.4, 0.5], [0.3, 0.4, 0.5]]},
    }


def test_table_pairs_the_seeds() -> None:
    text = shown(curves_table({"margin": MARGIN, "random": RANDOM}))
    assert "0.600 ± 0.141" in text
    assert "+0.100 ± 0.141" in text


def test_one_seed_has_no_spread() -> None:
    one = Curves.of(LABELS, [[0.3, 0.5, 0.7]])
    assert "±" not in shown(curves_table({"margin": one, "random": one})).partition("labels")[2]


def test_verdict_when_margin_wins() -> None:
    area, chance, saving = verdict(MARGIN, RANDOM)
    assert "margin 0.4500, random 0.4000; margin is ahead with 1 of 2 seeds" in area
    assert "+0.0500, standard error 0.0500: no more than chance would do with 2 seeds" in chance
    assert "is reached by margin at 67 labels: 17% fewer" in saving


def test_verdict_when_margin_loses() -> None:
    area, chance, saving = verdict(RANDOM, MARGIN)
    assert "margin is ahead with 0 of 2 seeds" in area
    assert "-0.0500" in chance
    assert "margin does not reach random's final accuracy (0.600) within 80 labels" in saving


def test_verdict_on_chance() -> None:
    steady = Curves.of(LABELS, [[0.4, 0.5, 0.6], [0.4, 0.51, 0.6]])
    assert ": more than chance would do with 2 seeds" in verdict(steady, RANDOM)[1]
    one = Curves.of(LABELS, [[0.3, 0.5, 0.7]])
    assert "one seed cannot tell" in verdict(one, one)[1]


def test_why_names_the_rivals() -> None:
    assert why(pick()) == "margin 0.9900: rec.autos 0.310 or rec.motorcycles 0.300"


def test_picks_tell_text_and_origin() -> None:
    text = shown(picks_table(batch(pick(), pick("word " * 100)), {"train-00007": "rec.autos"}, shown=2))
    for part in (
        "pools/news/models/h9",
        "ab" * 8,
        "seed 8",
        "1,234 candidates",
        "“re brakes”",
        "0.9900",
        "→ rec.autos",
    ):
        assert part in text
    assert "…”" in text


def test_picks_show_no_more_than_asked() -> None:
    text = shown(picks_table(batch(pick("first"), pick("second")), {"train-00007": "rec.autos"}, shown=1))
    assert "first" in text
    assert "second" not in text


def test_timings() -> None:
    watch = Stopwatch()
    watch.seconds["predict"].extend([0.001, 0.002, 0.009])
    with watch.measure("train head"):
        pass
    text = shown(timings_table(watch))
    assert "2.0" in text
    assert "9.0" in text
    assert "train head" in text


def test_schedule() -> None:
    assert Schedule(start=40, size=20, rounds=3).labels == [40, 60, 80, 100]


def test_plot_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    plot_curves({"margin": MARGIN, "random": RANDOM}, "title", path)
    pixels = image.imread(path)
    assert pixels.shape[0] > 500
    assert pixels.shape[1] > 800
    assert len({tuple(pixel) for pixel in pixels[::7, ::7, :3].reshape(-1, 3).tolist()}) > 10

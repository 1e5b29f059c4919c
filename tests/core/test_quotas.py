"""Quotas: exact by rank, kept by every selector and by chance, and refused before anything is computed."""

import json
from itertools import combinations

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.labeling.messages import BatchResult, BatchSpec
from assay.server.core.mining.messages import QuotaView
from assay.server.core.mining.plan.terms import Plan, Quotas, QuotaTerm, SelectTerm, Shortlist, ShortlistOrder
from assay.server.core.mining.selection import pickers
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import Compare
from assay.server.core.records.samples import AttributeColumn
from tests.core.kit import CLASSES, POOL, House, add, fill, label_by_sign, make_pool, names, refused, train, vectors
from tests.core.mining import COUNT, LABELED, all_probs, margins, mine, rows_of

OPEN = list(range(LABELED, COUNT))
# Of a pool of eleven: five, four and two samples, the last two of them without a colour.
COLOURS = ["red"] * 5 + ["blue"] * 4 + ["", ""]


@pytest.fixture
def coloured(core: Assay) -> Assay:
    """Eleven samples in three groups, each with a prediction."""
    present = np.array([bool(colour) for colour in COLOURS])
    probs = np.full((11, 3), 0.0, np.float32)
    probs[:, 0] = np.linspace(0.9, 0.4, 11)
    probs[:, 1] = 1 - probs[:, 0]
    attributes = {"colour": AttributeColumn("string", COLOURS, present)}
    add(core, names(0, 11), vectors(11), predictions_NC=probs, attributes=attributes)
    return core


def by_colour(*terms: QuotaTerm) -> Quotas:
    return Quotas(terms, "colour")


def by_class(core: Assay) -> np.ndarray:
    return all_probs(core).argmax(axis=1)


def test_the_best_batch_within_bounds_is_picked(coloured: Assay) -> None:
    quotas = by_colour(QuotaTerm("red", 2), QuotaTerm("blue", 0, 1))
    result = mine(coloured, 5, "margin", quotas=quotas)
    utility = [pick.score for pick in mine(coloured, 11, "margin").picks]
    worth = dict(zip(rows_of(mine(coloured, 11, "margin")), utility, strict=True))

    def allowed(batch: tuple[int, ...]) -> bool:
        colours = [COLOURS[row] for row in batch]
        return colours.count("red") >= 2 and colours.count("blue") <= 1

    best = max(filter(allowed, combinations(range(11), 5)), key=lambda batch: sum(worth[row] for row in batch))
    assert sorted(rows_of(result)) == sorted(best)
    assert [pick.score for pick in result.picks] == sorted((worth[row] for row in best), reverse=True)
    assert result.quotas == (QuotaView(quotas.quotas[0], 5, 2), QuotaView(quotas.quotas[1], 4, 1))
    assert mine(coloured, 5, "margin").quotas == ()


@pytest.mark.parametrize("preset", ["random", "k_center", "margin_k_center", "margin", "badge", "power_margin"])
@pytest.mark.parametrize("exploration", [0.0, 0.4, 1.0])
def test_every_selector_and_chance_keep_the_bounds(trained: Assay, preset: str, exploration: float) -> None:
    classes = by_class(trained)
    available = {name: int((classes[OPEN] == c).sum()) for c, name in enumerate(CLASSES)}
    most, least = ("ant", "bee") if available["ant"] < available["bee"] else ("bee", "ant")
    quotas = Quotas((QuotaTerm(most, 7), QuotaTerm(least, 0, 2)))
    for seed in range(3):
        result = mine(trained, 10, preset, quotas=quotas, exploration=exploration, seed=seed)
        counts = np.bincount(classes[rows_of(result)], minlength=3)
        assert len(set(rows_of(result))) == 10
        assert counts[CLASSES.index(most)] >= 7
        assert counts[CLASSES.index(least)] <= 2
        assert [(view.quota.value, view.available) for view in result.quotas] == [
            (most, available[most]),
            (least, available[least]),
        ]
        assert [view.picked for view in result.quotas] == [
            counts[CLASSES.index(most)],
            counts[CLASSES.index(least)],
        ]
        assert sum(pick.exploring for pick in result.picks) == round(10 * exploration)


@pytest.mark.parametrize("preset", ["random", "k_center", "margin"])
def test_a_target_is_met_as_far_as_there_are_samples(coloured: Assay, preset: str) -> None:
    even = by_colour(QuotaTerm("red", target=0.5), QuotaTerm("blue", target=0.5))
    assert [view.picked for view in mine(coloured, 6, preset, quotas=even).quotas] == [3, 3]
    result = mine(coloured, 10, preset, quotas=even)
    assert [view.picked for view in result.quotas] == [5, 4]
    assert len(result.picks) == 10
    nothing = by_colour(QuotaTerm("red", target=0.0), QuotaTerm("blue", 1, target=0.0))
    assert [view.picked for view in mine(coloured, 3, preset, quotas=nothing).quotas] == [0, 1]


def test_a_selector_sees_what_was_picked_for_the_other_groups(core: Assay) -> None:
    """Groups lie on top of each other: the second group's pick is the far one only in view of the first's."""
    spots = np.zeros((6, 4), np.float32)
    spots[:, 0] = [0, 10, 20, 0, 10, 20]
    add(core, names(0, 6), spots, attributes={"colour": AttributeColumn("string", ["red"] * 3 + ["blue"] * 3)})
    quotas = by_colour(QuotaTerm("red", 1, 1), QuotaTerm("blue", 2, 2))
    result = mine(core, 3, quotas=quotas, select=SelectTerm("k_center", {"start": "first"}))
    assert sorted(spots[rows_of(result), 0].tolist()) == [0, 10, 20]


@pytest.mark.parametrize(
    "shortlist",
    [
        Shortlist(size=6),
        Shortlist(per_pick=1),
        Shortlist(size=6, order=ShortlistOrder.RANDOM),
        Shortlist(per_pick=1, order=ShortlistOrder.RANDOM),
        Shortlist(neighbors=1),
    ],
)
def test_a_shortlist_leaves_room_for_the_quotas(trained: Assay, shortlist: Shortlist) -> None:
    classes = by_class(trained)
    rare = int(np.argmin(np.bincount(classes[OPEN], minlength=2)[:2]))
    scarce = int((classes[OPEN] == rare).sum())
    assert scarce >= 4
    quotas = Quotas((QuotaTerm(CLASSES[rare], 4), QuotaTerm(CLASSES[1 - rare], 0, 2)))
    for preset in ("margin_k_center", "margin"):
        result = mine(trained, 6, preset, quotas=quotas, shortlist=shortlist)
        assert len(result.picks) == 6
        assert result.quotas[0].picked == 4


def test_what_cannot_be_met_is_named(coloured: Assay) -> None:
    quotas = by_colour(QuotaTerm("red", 6), QuotaTerm("blue", 5))
    for dry in (False, True):
        error = refused(
            Reason.QUOTA_INFEASIBLE, lambda dry=dry: mine(coloured, 9, "k_center", quotas=quotas, validate_only=dry)
        )
        assert "colour 'red' needs 6 picks and has 5 candidates" in error.message
        assert "colour 'blue' needs 5 picks and has 4 candidates" in error.message
        assert "minima add up to 11" in error.message
        assert error.metadata["by"] == "colour"
        assert json.loads(error.metadata["shortfalls"]) == [
            {"group": "red", "bound": "minimum", "wanted": 6, "available": 5},
            {"group": "blue", "bound": "minimum", "wanted": 5, "available": 4},
            {"group": "", "bound": "minimums", "wanted": 11, "available": 9},
        ]
    narrow = by_colour(QuotaTerm("red", 0, 1), QuotaTerm("blue", 0, 1))
    error = refused(Reason.QUOTA_INFEASIBLE, lambda: mine(coloured, 5, "random", quotas=narrow))
    assert json.loads(error.metadata["shortfalls"]) == [{"group": "", "bound": "maximums", "wanted": 5, "available": 4}]
    assert len(mine(coloured, 4, "random", quotas=narrow).picks) == 4


def test_many_shortfalls_fit_into_an_error(core: Assay) -> None:
    words = [f"{number:03}" + "w" * 300 for number in range(100)]
    add(core, names(0, 100), attributes={"word": AttributeColumn("string", words)})
    quotas = Quotas(tuple(QuotaTerm(word, 2) for word in words), "word")
    error = refused(Reason.QUOTA_INFEASIBLE, lambda: mine(core, 10, "random", quotas=quotas))
    assert error.metadata["shortfall_count"] == "101"
    assert len(error.message) + len(error.metadata["shortfalls"]) < 3000


def test_quotas_need_predictions_of_the_candidates_only(house: House) -> None:
    core = house.open()
    make_pool(core)
    label_by_sign(core, fill(core, 30), 10)
    error = refused(Reason.NEED_MISSING, lambda: mine(core, 3, "random", quotas=Quotas((QuotaTerm("ant", 1),))))
    assert "A quota by predicted class" in error.message
    train(core)
    result = mine(core, 3, "random", quotas=Quotas((QuotaTerm("ant", 1),)))
    assert result.quotas[0].picked >= 1
    assert result.provenance.source == "head"
    assert mine(core, 3, "random").provenance.source == "none"
    add(core, ["late"], np.full((1, 4), 9.0, np.float32))
    late = mine(core, 21, "random", quotas=Quotas((QuotaTerm("ant", 1),)))
    assert 30 in rows_of(late)


def test_batches_keep_their_quotas_until_they_cannot(coloured: Assay) -> None:
    def lease(size: int, plan: Plan) -> BatchResult:
        return coloured.labeling.next_batch(POOL, BatchSpec("ada", size, plan), NO_KEY)

    plan = Plan("margin", quotas=by_colour(QuotaTerm("red", 1, 2)))
    counts = [lease(2, plan).quotas[0].picked for _ in range(2)]
    assert all(1 <= count <= 2 for count in counts)
    rest = lease(5, Plan("margin", Compare("colour", "==", "red")))
    assert len(rest.picks) == 5 - sum(counts)
    refused(Reason.QUOTA_INFEASIBLE, lambda: lease(1, plan))


def test_many_quotas_pick_as_one_by_one(core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidates are narrowed first where there are many groups, and the picks stay what they were."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(1, 6, (400, 3)).astype(np.float32)
    numbers = AttributeColumn("int64", rng.integers(0, 60, 400))
    probs = coarse / coarse.sum(axis=1, keepdims=True)
    add(core, names(0, 400), vectors(400), predictions_NC=probs, attributes={"n": numbers})
    for size, least, target in ((70, 1, None), (40, 0, 0.01), (90, 1, 0.005)):
        terms = tuple(QuotaTerm(n, least, 3, target) for n in range(50) if (numbers.values == n).any())
        quotas = Quotas(terms, "n")
        monkeypatch.setattr(pickers, "MANY_QUOTAS", 32)
        narrowed = rows_of(mine(core, size, "margin", quotas=quotas))
        monkeypatch.setattr(pickers, "MANY_QUOTAS", 1000)
        assert rows_of(mine(core, size, "margin", quotas=quotas)) == narrowed


def test_ties_of_best_batches_go_to_the_earlier_row(core: Assay) -> None:
    add(
        core,
        names(0, 10),
        predictions_NC=np.full((10, 3), 1 / 3, np.float32),
        attributes={"even": AttributeColumn("bool", np.arange(10) % 2 == 0)},
    )
    quotas = Quotas((QuotaTerm(True, 1), QuotaTerm(False, 0, 1)), "even")
    assert rows_of(mine(core, 4, "margin", quotas=quotas)) == [0, 1, 2, 4]
    assert margins(core, 10).tolist() == pytest.approx([1.0] * 10)

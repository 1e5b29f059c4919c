"""Picks are no near copies of each other, nor of what is labeled or leased."""

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.labeling.messages import BatchSpec
from assay.server.core.mining.plan.terms import Plan, Quotas, QuotaTerm, Shortlist, ShortlistOrder
from assay.server.core.mining.selection import spacing
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.pools import Metric
from assay.server.core.records.samples import AttributeColumn
from tests.core.kit import POOL, House, add, annotate, make_pool, names, refused, vectors
from tests.core.mining import mine, rows_of

KINDS, COPIES = 30, 6
COUNT = KINDS * COPIES
RADIUS = 0.5


def copies(core: Assay) -> np.ndarray:
    """Thirty kinds far apart, six near copies of each; the copies of a kind are alike to the model too."""
    spots = 10 * vectors(KINDS, seed=1).repeat(COPIES, axis=0) + 0.01 * vectors(COUNT)
    wide = np.linspace(0.5, 0.99, KINDS, dtype=np.float32).repeat(COPIES)
    probs = np.stack([wide, 1 - wide, np.zeros_like(wide)], axis=1)
    side = AttributeColumn("bool", np.arange(COUNT) % 2 == 0)
    add(core, names(0, COUNT), spots.astype(np.float32), predictions_NC=probs, attributes={"even": side})
    return spots


def kinds(result: object) -> list[int]:
    return [row // COPIES for row in rows_of(result)]


def is_apart(spots: np.ndarray, rows: list[int], others: list[int]) -> bool:
    distances = np.linalg.norm(spots[rows][:, None] - spots[rows + others], axis=2)
    np.fill_diagonal(distances, np.inf)
    return bool(distances.min() > RADIUS)


@pytest.mark.parametrize("preset", ["margin", "random", "k_center", "badge", "kmeans_pp", "power_margin"])
@pytest.mark.parametrize("exploration", [0.0, 0.3])
def test_no_two_picks_are_of_a_kind(core: Assay, preset: str, exploration: float) -> None:
    spots = copies(core)
    annotate(core, {f"s{row}": "ant" for row in (0, 1, COPIES)})
    taken = core.labeling.next_batch(POOL, BatchSpec("bob", 2, Plan("margin")), NO_KEY)
    known = [0, 1, COPIES, *rows_of(taken)]
    result = mine(core, 20, preset, near_duplicate_radius=RADIUS, exploration=exploration, seed=2)
    assert len(result.picks) == 20
    assert is_apart(spots, rows_of(result), known)
    assert sum(pick.exploring for pick in result.picks) == round(20 * exploration)
    again = mine(core, 20, preset, near_duplicate_radius=RADIUS, exploration=exploration, seed=2)
    assert rows_of(again) == rows_of(result)


def test_by_rank_the_best_of_each_kind_is_picked(core: Assay) -> None:
    copies(core)
    assert rows_of(mine(core, 5, "margin")) == [0, 1, 2, 3, 4]
    result = mine(core, KINDS, "margin", near_duplicate_radius=RADIUS)
    assert rows_of(result) == [kind * COPIES for kind in range(KINDS)]
    scores = [pick.score for pick in result.picks]
    assert scores == sorted(scores, reverse=True)


def test_a_selector_replaces_near_copies_in_view_of_what_is_kept(core: Assay) -> None:
    """The lone far sample is what k-center would pick first in view of everything; copies cost it nothing."""
    spots = np.zeros((8, 4), np.float32)
    spots[:, 0] = [0, 0.01, 0.02, 0.03, 20, 20.01, 20.02, 50]
    add(core, names(0, 8), spots)
    result = mine(core, 3, "k_center", near_duplicate_radius=RADIUS)
    assert sorted(np.round(spots[rows_of(result), 0]).tolist()) == [0, 20, 50]


def test_within_quotas(core: Assay) -> None:
    copies(core)
    for preset in ("margin", "k_center", "random"):
        quotas = Quotas((QuotaTerm(True, 12), QuotaTerm(False, 0, 5)), "even")
        result = mine(core, 15, preset, quotas=quotas, near_duplicate_radius=RADIUS)
        assert len(set(kinds(result))) == 15
        assert result.quotas[0].picked >= 12
        assert result.quotas[1].picked <= 5


def test_the_end_of_what_is_apart(core: Assay) -> None:
    copies(core)
    for preset in ("margin", "k_center", "random"):
        error = refused(
            Reason.POOL_EXHAUSTED,
            lambda preset=preset: mine(core, KINDS + 1, preset, near_duplicate_radius=RADIUS),
        )
        assert f"only {KINDS} are farther than near_duplicate_radius" in error.message
        assert error.metadata == {"candidates": str(COUNT), "apart": str(KINDS), "size": str(KINDS + 1)}
    plan = Plan("margin", near_duplicate_radius=RADIUS)
    batch = core.labeling.next_batch(POOL, BatchSpec("ada", KINDS + 10, plan), NO_KEY)
    assert sorted(kinds(batch)) == list(range(KINDS))
    refused(Reason.POOL_EXHAUSTED, lambda: core.labeling.next_batch(POOL, BatchSpec("bob", 1, plan), NO_KEY))


def test_quotas_that_only_copies_could_meet(core: Assay) -> None:
    spots = np.zeros((12, 4), np.float32)
    spots[4:, 1] = np.arange(8) * 3
    add(core, names(0, 12), spots, attributes={"even": AttributeColumn("bool", np.arange(12) < 4)})
    needed = Quotas((QuotaTerm(True, 2),), "even")
    for preset in ("k_center", "random"):
        error = refused(
            Reason.QUOTA_INFEASIBLE,
            lambda preset=preset: mine(core, 4, preset, quotas=needed, near_duplicate_radius=RADIUS),
        )
        assert "by samples that are farther apart than near_duplicate_radius" in error.message
    wished = Quotas((QuotaTerm(True, target=0.5),), "even")
    result = mine(core, 6, "random", quotas=wished, near_duplicate_radius=RADIUS)
    assert (result.quotas[0].picked, len(result.picks)) == (1, 6)
    bound = Quotas((QuotaTerm(False, 0, 2),), "even")
    plan = Plan("random", quotas=bound, near_duplicate_radius=RADIUS)
    batch = core.labeling.next_batch(POOL, BatchSpec("ada", 6, plan), NO_KEY)
    assert sorted(row < 4 for row in rows_of(batch)) == [False, False, True]


def test_a_shortlist_full_of_copies_does_not_starve_the_batch(core: Assay) -> None:
    copies(core)
    narrow = Shortlist(size=20, order=ShortlistOrder.RANDOM)
    result = mine(core, 20, "k_center", shortlist=narrow, near_duplicate_radius=RADIUS)
    assert len(set(kinds(result))) == 20
    by_rank = mine(core, 10, "margin_k_center", shortlist=Shortlist(size=10), near_duplicate_radius=RADIUS)
    assert len(set(kinds(by_rank))) == 10


def test_a_shortlist_full_of_copies_does_not_break_quotas_that_the_pool_can_meet(core: Assay) -> None:
    copies(core)
    for seed in range(4):
        for preset in ("margin", "k_center"):
            quotas = Quotas((QuotaTerm(True, 12), QuotaTerm(False, 0, 8)), "even")
            narrow = Shortlist(size=20, order=ShortlistOrder.RANDOM)
            result = mine(core, 20, preset, quotas=quotas, shortlist=narrow, near_duplicate_radius=RADIUS, seed=seed)
            assert len(set(kinds(result))) == 20
            assert result.quotas[0].picked >= 12
            assert result.quotas[1].picked <= 8


def test_many_copies_are_passed_over_in_few_rounds(core: Assay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exhausting 3,000 copies of one sample looks at ever more of them at once."""
    monkeypatch.setattr(spacing, "LOOKED_AT_LEAST", 8)
    spots = np.zeros((3000, 4), np.float32)
    spots[-1, 0] = 5
    uniform = np.full((3000, 3), 1 / 3, np.float32)
    add(core, names(0, 3000), spots, predictions_NC=uniform)
    looked_at: list[int] = []
    offer = spacing.Spaced.offer
    monkeypatch.setattr(
        spacing.Spaced,
        "offer",
        lambda self, batch, count: (looked_at.append(len(batch[0])), offer(self, batch, count)),
    )
    assert rows_of(mine(core, 2, "margin", near_duplicate_radius=RADIUS)) == [0, 2999]
    assert len(looked_at) < 12


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
def test_the_radius_is_euclidean_between_stored_embeddings(house: House, metric: Metric) -> None:
    core = house.open()
    make_pool(core, metric=metric)
    angles = np.deg2rad([0, 50, 100])
    lengths = np.array([1, 2, 4])
    spots = np.zeros((3, 4), np.float32)
    spots[:, 0], spots[:, 1] = lengths * np.cos(angles), lengths * np.sin(angles)
    add(core, names(0, 3), spots)
    nearest = 2 * np.sin(np.deg2rad(25)) if metric is Metric.COSINE else float(np.linalg.norm(spots[1] - spots[0]))
    assert len(mine(core, 3, "random", near_duplicate_radius=nearest - 1e-3).picks) == 3
    refused(Reason.POOL_EXHAUSTED, lambda: mine(core, 3, "random", near_duplicate_radius=nearest + 1e-3))

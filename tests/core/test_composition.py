"""How a plan combines: scores into a utility, noise on it, shortlists, and what everybody else holds."""

import numpy as np
import pytest

import assay.strategies
from assay.server.core.assay import Assay
from assay.server.core.labeling.messages import BatchSpec
from assay.server.core.mining.messages import ScoreSpec
from assay.server.core.mining.plan.presets import listed
from assay.server.core.mining.plan.terms import (
    Combination,
    Plan,
    Quotas,
    QuotaTerm,
    ScoreTerm,
    SelectTerm,
    Shortlist,
    ShortlistOrder,
    Stochastic,
)
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import Compare
from assay.server.core.records.pools import State
from assay.strategies.composition.combine import rank_sum
from assay.strategies.composition.stochastic import perturbed
from tests.core.kit import DIMENSION, POOL, add, fill, label_by_sign, names, pool_of, train, vectors
from tests.core.mining import COUNT, LABELED, margins, mine, rows_of

OPEN = np.arange(LABELED, COUNT)
TOP = SelectTerm("top")
TWO = (ScoreTerm("margin", strength=2.0), ScoreTerm("entropy"))


def scores(core: Assay, name: str) -> np.ndarray:
    stream = core.mining.score(POOL, ScoreSpec(Plan(name), states=(State.UNLABELED, State.LABELED)))
    return np.concatenate([scores for _, scores in stream.chunks])


def best(utility: np.ndarray, size: int) -> list[int]:
    return OPEN[np.argsort(-utility[OPEN], kind="stable")][:size].tolist()


def test_scores_multiply_by_their_strengths(trained: Assay) -> None:
    expected = scores(trained, "margin").astype(np.float64) ** 2 * scores(trained, "entropy")
    result = mine(trained, 10, scores=TWO, select=TOP)
    assert rows_of(result) == best(expected, 10)
    np.testing.assert_allclose([pick.score for pick in result.picks], expected[rows_of(result)], rtol=1e-4)
    assert [name for name, _ in result.picks[0].parts] == ["margin", "entropy"]


def test_a_strategy_that_is_named_twice_gives_two_parts(trained: Assay) -> None:
    thrice = (ScoreTerm("margin"), ScoreTerm("entropy"), ScoreTerm("margin", strength=2.0))
    result = mine(trained, 5, scores=thrice, select=TOP)
    for pick in result.picks:
        (first, margin), (second, entropy), (third, again) = pick.parts
        assert (first, second, third) == ("margin", "entropy", "margin")
        assert margin == again
        assert pick.score == pytest.approx(margin**3 * entropy, rel=1e-4)


def test_ranks_among_the_candidates_add_up(trained: Assay) -> None:
    mask = np.arange(COUNT) >= 40
    expected = rank_sum([scores(trained, "margin"), scores(trained, "entropy")], [2.0, 1.0], mask)
    result = mine(trained, 10, scores=TWO, select=TOP, combination=Combination.RANK_SUM, filter=Compare("n", ">=", 40))
    order = 40 + np.argsort(-expected[40:], kind="stable")
    assert rows_of(result) == order[:10].tolist()
    assert result.picks[0].score <= 1
    whole = mine(trained, 60, scores=TWO, select=TOP, combination=Combination.RANK_SUM)
    assert whole.picks[-1].score < result.picks[-1].score


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
def test_noise_is_of_the_seed_and_the_row(trained: Assay, kind: str) -> None:
    noisy = {"stochastic": Stochastic(kind, 2.0)}  # type: ignore[arg-type]
    result = mine(trained, 12, "margin", seed=5, **noisy)
    mask = np.arange(COUNT) >= LABELED
    utility = perturbed(scores(trained, "margin"), np.arange(COUNT), 5, kind, 2.0, mask)  # type: ignore[arg-type]
    assert rows_of(result) == best(utility, 12)
    assert rows_of(mine(trained, 12, "margin", seed=5, **noisy)) == rows_of(result)
    assert rows_of(mine(trained, 12, "margin", seed=6, **noisy)) != rows_of(result)
    margin = pytest.approx(margins(trained)[result.picks[0].sample.row], abs=1e-5)
    assert result.picks[0].parts == (("margin", margin),)


def test_noise_prefers_what_scores_higher(trained: Assay) -> None:
    likely, unlikely = best(margins(trained), 60)[:20], best(margins(trained), 60)[-20:]
    picked = [row for seed in range(40) for row in rows_of(mine(trained, 10, "power_margin", seed=seed))]
    counts = np.bincount(picked, minlength=COUNT)
    assert counts[likely].sum() > 2 * counts[unlikely].sum()
    assert np.count_nonzero(counts) > 20


def test_before_a_selector_the_noise_makes_the_shortlist_and_the_selector_sees_the_utility(trained: Assay) -> None:
    mask = np.arange(COUNT) >= LABELED
    ranking = perturbed(scores(trained, "entropy"), np.arange(COUNT), 5, "power", 1.0, mask)
    shortlist = set(best(ranking, 12))
    plan = {"scores": (ScoreTerm("entropy"),), "shortlist": Shortlist(size=12), "stochastic": Stochastic()}
    result = mine(trained, 12, select=SelectTerm("information_density"), seed=5, **plan)
    assert set(rows_of(result)) == shortlist
    assert all(pick.score >= 0 for pick in result.picks)
    plain = mine(trained, 12, scores=plan["scores"], shortlist=plan["shortlist"], select=SelectTerm("random"), seed=5)
    assert set(rows_of(plain)) == set(best(scores(trained, "entropy"), 12)) != shortlist


def test_a_random_shortlist_is_cut_before_the_scores(trained: Assay) -> None:
    shortlist = Shortlist(size=15, order=ShortlistOrder.RANDOM)
    kept = set(rows_of(mine(trained, 15, "margin", shortlist=shortlist, seed=3)))
    result = mine(trained, 5, "margin", shortlist=shortlist, seed=3)
    assert rows_of(result) == [row for row in best(margins(trained), 60) if row in kept][:5]
    assert {stage for stage, _ in result.timings} >= {"shortlist", "score"}
    assert set(rows_of(mine(trained, 15, "margin", shortlist=shortlist, seed=4))) != kept
    wide = Shortlist(per_pick=1000, order=ShortlistOrder.RANDOM)
    assert rows_of(mine(trained, 5, "margin", shortlist=wide)) == best(margins(trained), 5)
    assert len(mine(trained, 5, "random", shortlist=Shortlist(per_pick=2, order=ShortlistOrder.RANDOM)).picks) == 5


@pytest.mark.parametrize("order", ShortlistOrder)
def test_a_shortlist_may_be_larger_than_any_pool(trained: Assay, order: ShortlistOrder) -> None:
    for huge in (Shortlist(size=2**62, order=order), Shortlist(per_pick=2**62, order=order)):
        assert rows_of(mine(trained, 5, "margin_k_center", shortlist=huge)) == rows_of(mine(trained, 5, "k_center"))


def test_a_random_shortlist_keeps_the_noise_what_it_is(trained: Assay) -> None:
    """Were both made of one hash, the kept would all have the same noise, and beta 0 would not draw evenly."""
    shortlist = Shortlist(size=30, order=ShortlistOrder.RANDOM)
    counts = np.zeros(COUNT)
    for seed in range(150):
        plan = {"shortlist": shortlist, "stochastic": Stochastic("softmax", 1e-6)}
        counts[rows_of(mine(trained, 10, "margin", seed=seed, **plan))] += 1
    assert counts[OPEN].min() > 150 / 6 / 3
    assert counts[OPEN].max() < 150 / 6 * 2


def test_exploration_is_not_held_back_by_a_shortlist(trained: Assay) -> None:
    shortlist = Shortlist(size=10, order=ShortlistOrder.RANDOM)
    explored = {
        row
        for seed in range(20)
        for row in rows_of(mine(trained, 20, "margin", shortlist=shortlist, exploration=0.5, seed=seed))
    }
    assert explored == set(OPEN.tolist())


def test_picks_keep_away_from_what_others_hold(core: Assay) -> None:
    """Two heaps: whoever holds one sample of a heap sends the next worker to the other."""
    heaps = np.concatenate([np.zeros((5, DIMENSION)), np.full((5, DIMENSION), 10.0)])
    add(core, names(0, 10), (heaps + 0.01 * vectors(10)).astype(np.float32))
    plan = Plan("k_center")
    held = []
    for worker in ("ada", "bob", "cem"):
        batch = core.labeling.next_batch(POOL, BatchSpec(worker, 1, plan), NO_KEY)
        held += rows_of(batch)
    assert len({row < 5 for row in held[:2]}) == 2
    snapshot = pool_of(core).snapshot
    assert snapshot.conditioned_rows.tolist() == sorted(held)


def test_every_preset_goes_with_every_part_of_a_plan(core: Assay) -> None:
    embeddings = fill(core, 300, step=100)
    label_by_sign(core, embeddings, 40)
    train(core, members=3)
    core.labeling.next_batch(POOL, BatchSpec("bob", 7, Plan("random")), NO_KEY)
    known = pool_of(core).snapshot.conditioned_rows.tolist()
    quotas = Quotas((QuotaTerm("ant", 7), QuotaTerm("bee", 0, 10, 0.3)))
    for preset in listed(assay.strategies):
        result = mine(
            core,
            15,
            preset.name,
            quotas=quotas,
            near_duplicate_radius=0.4,
            exploration=0.2,
            shortlist=Shortlist(neighbors=20) if preset.plan.stochastic is None else None,
            query=("s3", "s50"),
            seed=1,
        )
        rows = rows_of(result)
        assert len(set(rows)) == 15, preset.name
        assert result.quotas[0].picked >= 7, preset.name
        assert result.quotas[1].picked <= 10, preset.name
        gaps = np.linalg.norm(embeddings[rows][:, None] - embeddings[known + rows], axis=2)
        gaps[np.array(rows)[:, None] == np.array(known + rows)] = np.inf
        assert gaps.min() > 0.4, preset.name

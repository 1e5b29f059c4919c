"""What a plan picks, beside a plain computation of the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

import assay.strategies
from assay.server.core.assay import Assay
from assay.server.core.errors import Reason, RequestReplayed
from assay.server.core.mining.messages import MineSpec, ScoreSpec
from assay.server.core.mining.plan.terms import Plan, ScoreTerm, SelectTerm, Shortlist
from assay.server.core.models.predictions import PredictionCache
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import AllOf, AnyOf, Compare, HasId, Not, OneOf
from assay.server.core.records.pools import State
from assay.strategies import Candidates, Need, NoParams, Selection, Strategy, UnknownStrategy
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    fill,
    key,
    label_by_sign,
    make_pool,
    names,
    next_batch,
    pool_of,
    probabilities,
    refused,
    standing,
    train,
    vectors,
)
from tests.core.mining import COUNT, LABELED, all_probs, mine, rows_of


def naive(preset: str, probs: np.ndarray) -> np.ndarray:
    ordered = np.sort(probs, axis=1)
    match preset:
        case "least_confidence":
            return 1 - ordered[:, -1]
        case "margin":
            return 1 - (ordered[:, -1] - ordered[:, -2])
        case _:
            return -(probs * np.log(np.maximum(probs, 1e-300))).sum(axis=1)


@pytest.mark.parametrize("preset", ["least_confidence", "margin", "entropy"])
def test_uncertainty_ranks_as_its_definition(trained: Assay, preset: str) -> None:
    scores = naive(preset, all_probs(trained))
    open_rows = np.arange(LABELED, COUNT)
    expected = open_rows[np.argsort(-scores[open_rows], kind="stable")][:15]
    result = mine(trained, 15, preset)
    assert rows_of(result) == expected.tolist()
    np.testing.assert_allclose([pick.score for pick in result.picks], scores[expected], atol=1e-5)
    assert [pick.rank for pick in result.picks] == list(range(1, 16))
    assert all(pick.parts == ((preset, pytest.approx(pick.score)),) for pick in result.picks)


def farthest_first(embeddings: np.ndarray, candidates: list[int], centres: list[int], size: int) -> list[int]:
    wide, picked = embeddings.astype(np.float64), []
    for _ in range(size):
        distances = [min(np.linalg.norm(wide[row] - wide[centre]) for centre in centres + picked) for row in candidates]
        picked.append(candidates[int(np.argmax(distances))])
    return picked


def test_k_center_covers_what_is_not_labeled(trained: Assay) -> None:
    expected = farthest_first(vectors(COUNT), list(range(LABELED, COUNT)), list(range(LABELED)), 10)
    assert rows_of(mine(trained, 10, "k_center")) == expected


def test_a_shortlist_keeps_the_most_uncertain_for_the_selector(trained: Assay) -> None:
    scores = naive("margin", all_probs(trained))
    open_rows = np.arange(LABELED, COUNT)
    shortlist = np.sort(open_rows[np.argsort(-scores[open_rows], kind="stable")][:12])
    expected = farthest_first(vectors(COUNT), shortlist.tolist(), list(range(LABELED)), 4)
    result = mine(trained, 4, "margin_k_center", shortlist=Shortlist(per_pick=3))
    assert rows_of(result) == expected
    assert [name for name, _ in result.picks[0].parts] == ["margin"]
    assert rows_of(mine(trained, 4, "margin_k_center", shortlist=Shortlist(size=12))) == expected
    assert len(mine(trained, 4, "margin_k_center", shortlist=Shortlist(size=1)).picks) == 4


def test_scores_multiply_with_their_strengths(trained: Assay) -> None:
    probs = all_probs(trained)
    product = naive("margin", probs) ** 2 * naive("entropy", probs)
    open_rows = np.arange(LABELED, COUNT)
    expected = open_rows[np.argsort(-product[open_rows], kind="stable")][:5]
    terms = (ScoreTerm("margin", strength=2.0), ScoreTerm("entropy"))
    result = mine(trained, 5, scores=terms, select=SelectTerm("top"))
    assert rows_of(result) == expected.tolist()
    assert [name for name, _ in result.picks[0].parts] == ["margin", "entropy"]
    np.testing.assert_allclose([pick.score for pick in result.picks], product[expected], rtol=1e-4)


def test_random_is_uniform_seeded_and_the_same_again(core: Assay) -> None:
    fill(core, 50)
    first = rows_of(mine(core, 50, "random"))
    assert sorted(first) == list(range(50))
    assert rows_of(mine(core, 50, "random")) == first
    assert rows_of(mine(core, 50, "random", seed=1)) != first
    assert rows_of(mine(core, 10, "random")) == first[:10]
    assert len(mine(core, 5, "random", seed=2**64 - 1).picks) == 5
    picked = [rows_of(mine(core, 10, "random", seed=seed)) for seed in range(60)]
    shares = np.bincount(np.concatenate(picked), minlength=50) / 60
    assert shares.min() > 0.02
    assert shares.max() < 0.45


def test_the_same_snapshot_and_seed_give_the_same_picks(trained: Assay) -> None:
    for preset in ("margin", "k_center", "margin_k_center", "random"):
        one, two = mine(trained, 8, preset, exploration=0.5), mine(trained, 8, preset, exploration=0.5)
        assert (one.picks, one.provenance) == (two.picks, two.provenance)


def test_an_exploration_share_is_drawn_at_random(trained: Assay) -> None:
    exploited = rows_of(mine(trained, 10, "margin"))
    result = mine(trained, 10, "margin", exploration=0.3, seed=3)
    assert rows_of(result)[:7] == exploited[:7]
    exploring = result.picks[7:]
    assert all(pick.exploring and pick.score == 0.0 for pick in exploring)
    assert not any(pick.exploring for pick in result.picks[:7])
    assert len(set(rows_of(result))) == 10
    others = mine(trained, 10, "margin", exploration=0.3, seed=4)
    assert rows_of(others)[7:] != rows_of(result)[7:]
    for preset in ("margin", "k_center", "margin_k_center", "random"):
        assert len(set(rows_of(mine(trained, 10, preset, exploration=1.0)))) == 10


def test_filters_and_states_decide_who_is_a_candidate(trained: Assay) -> None:
    next_batch(trained, 5, plan=Plan(preset="random"))
    leased = {row for view in trained.labeling.leases(POOL, "", 0, 9) for row in view.record.rows}
    for condition, wanted in (
        (Compare("n", ">=", 70), range(70, 80)),
        (OneOf("n", (21, 22, 99)), (21, 22)),
        (AllOf((Compare("n", ">", 20), Compare("n", "<=", 30))), range(21, 31)),
        (AnyOf((Compare("n", "<", 25), Not(Compare("n", "<", 75)))), (*range(25), *range(75, 80))),
        (HasId(("s1", "s41", "s42", "none")), (1, 41, 42)),
    ):
        expected = {row for row in wanted if row >= LABELED} - leased
        result = mine(trained, len(expected), "margin", filter=condition)
        assert set(rows_of(result)) == expected
        assert result.provenance.candidates == len(expected)
        inside = trained.mining.mine(POOL, MineSpec(len(expected), Plan("margin", condition)), NO_KEY)
        assert rows_of(inside) == rows_of(result)
    both = MineSpec(1, Plan("random", Compare("n", ">=", 40)), Compare("n", "<", 42))
    assert trained.mining.mine(POOL, both, NO_KEY).provenance.candidates == 2 - len(leased & {40, 41})


def test_provenance_says_what_picks_were_computed_from(trained: Assay) -> None:
    result = mine(trained, 3, "margin", seed=7)
    record = trained.pools.get(POOL).record
    came = result.provenance
    assert (came.head, came.backbone, came.source, came.space) == (record.head, "", "head", "space-1")
    assert (came.epoch, came.seed, came.candidates) == (record.epoch, 7, COUNT - LABELED)
    assert len(came.plan_digest) == 64
    assert mine(trained, 3, "random").provenance.source == "none"
    assert {stage for stage, _ in result.timings} >= {"filter", "score", "select", "describe"}
    assert all(seconds >= 0 for _, seconds in result.timings)
    assert result.plan.select == SelectTerm("top", {})
    assert result.plan.preset == "margin"


def test_a_dry_run_counts_and_changes_nothing(trained: Assay) -> None:
    before = standing(trained)
    result = mine(trained, 5, "margin_k_center", validate_only=True)
    assert result.picks == ()
    estimate = result.estimate
    assert estimate is not None
    assert estimate.candidates == COUNT - LABELED
    assert estimate.bytes_read == COUNT * 4 * (4 + 3) + 60 * 4 * 4
    assert estimate.gflop > 0
    assert estimate.seconds > 0
    assert standing(trained) == before


def test_mining_changes_nothing_and_repeats_its_answer(trained: Assay) -> None:
    before = standing(trained)
    request = key("r1")
    result = trained.mining.mine(POOL, MineSpec(3), request)
    assert standing(trained) == before
    annotate(trained, {result.picks[0].sample.record.id: "ant"})
    with pytest.raises(RequestReplayed) as replayed:
        trained.mining.mine(POOL, MineSpec(3), request)
    assert replayed.value.response == request.encode(result)


def test_picks_carry_payloads_and_predictions_when_asked(trained: Assay) -> None:
    plain = mine(trained, 2, "margin").picks[0]
    assert (plain.sample.record.payload, plain.predictions) == (b"", ())
    result = mine(trained, 2, "margin", payload=True, predictions=2)
    probs = all_probs(trained)
    for pick in result.picks:
        assert pick.sample.record.payload == pick.sample.record.id.encode()
        order = np.argsort(-probs[pick.sample.row])[:2]
        assert [name for name, _ in pick.predictions] == [("ant", "bee", "cow")[c] for c in order]
        np.testing.assert_allclose([p for _, p in pick.predictions], probs[pick.sample.row][order], atol=1e-6)


def test_scores_stream_by_row(trained: Assay) -> None:
    stream = trained.mining.score(POOL, ScoreSpec(Plan("entropy"), chunk=25))
    chunks = list(stream.chunks)
    assert [len(ids) for ids, _ in chunks] == [25, 25, 10]
    assert [sample_id for ids, _ in chunks for sample_id in ids] == names(LABELED, COUNT)
    scores = np.concatenate([scores for _, scores in chunks])
    np.testing.assert_allclose(scores, naive("entropy", all_probs(trained))[LABELED:], atol=1e-5)
    assert stream.provenance.candidates == COUNT - LABELED
    labeled = trained.mining.score(POOL, ScoreSpec(states=(State.LABELED,)))
    assert [sample_id for ids, _ in labeled.chunks for sample_id in ids] == names(0, LABELED)


def test_a_selection_too_large_to_hold_asks_for_a_shortlist(house: House, core: Assay) -> None:
    fill(core, 40)
    core = house.with_limits(max_selector_bytes=40 * 4 * 4 - 1).open()
    refused(Reason.INVALID_PLAN, lambda: mine(core, 2, "k_center"))
    assert len(mine(core, 2, "k_center", filter=Compare("n", "<", 30)).picks) == 2


def test_ties_go_to_the_earlier_row(core: Assay) -> None:
    add(core, names(0, 30), predictions_NC=np.full((30, 3), 1 / 3, np.float32))
    assert rows_of(mine(core, 5, "margin")) == [0, 1, 2, 3, 4]


def test_strategies_and_presets_are_listed(core: Assay) -> None:
    strategies, presets = core.mining.strategies(), core.mining.presets()
    assert {view.name for view in strategies} == set(assay.strategies.registry.kinds())
    assert [preset.name for preset in presets] == sorted(preset.name for preset in presets)
    by_name = {view.name: view for view in strategies}
    assert by_name["k_center"].kind == "selector"
    assert by_name["k_center"].params_schema["properties"]["start"]["enum"] == ["mean", "first", "max_norm"]
    assert by_name["margin"].kind == "scorer"


# --- strategies of others ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disagreement:
    """Spread of the members' probabilities."""

    name: ClassVar[str] = "disagreement"
    summary: ClassVar[str] = "Members disagree."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.MEMBER_PROBS})
    params: ClassVar[type[NoParams]] = NoParams

    def score(self, block: Candidates, params: NoParams) -> np.ndarray:
        return block.member_probs_KNC.std(axis=0).mean(axis=1).astype(np.float32)


@dataclass(frozen=True)
class Graphic:
    """Asks for what no server here computes."""

    name: ClassVar[str] = "graphic"
    summary: ClassVar[str] = "Needs a graph."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.KNN_GRAPH})
    params: ClassVar[type[NoParams]] = NoParams

    def score(self, block: Candidates, params: NoParams) -> np.ndarray:
        return block.knn_graph_NK.sum(axis=1).astype(np.float32)


@dataclass(frozen=True)
class Doubt:
    """Reads probabilities and embeddings together."""

    name: ClassVar[str] = "doubt"
    summary: ClassVar[str] = "Doubt times length."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS, Need.EMBEDDINGS, Need.LABELED_CLASSES})
    params: ClassVar[type[NoParams]] = NoParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False

    def select(self, candidates: Candidates, size: int, rng: Any, utility: Any, params: NoParams) -> Selection:
        worth = (1 - candidates.probs_NC.max(axis=1)) * np.linalg.norm(candidates.embeddings_ND, axis=1)
        order = np.argsort(-worth, kind="stable")[:size]
        return Selection(order.astype(np.int64), worth[order].astype(np.float32))


@dataclass(frozen=True)
class Extended:
    """The shipped strategies and those of another package."""

    others: Mapping[str, Strategy] = field(
        default_factory=lambda: {s.name: s for s in (Disagreement(), Graphic(), Doubt())}
    )

    def names(self) -> tuple[str, ...]:
        return (*assay.strategies.names(), *self.others)

    def get(self, name: str) -> Strategy:
        if name not in self.names():
            raise UnknownStrategy(name, self.names())
        return self.others.get(name) or assay.strategies.get(name)


@pytest.fixture
def extended(house: House) -> Assay:
    house.registry = Extended()
    opened = house.open()
    make_pool(opened)
    return opened


COMMITTEE = {"scores": (ScoreTerm("disagreement"),), "select": SelectTerm("top")}


def test_a_single_model_has_no_committee(extended: Assay) -> None:
    embeddings = fill(extended, 40)
    refused(Reason.MODEL_NOT_STOCHASTIC, lambda: mine(extended, 3, **COMMITTEE))
    label_by_sign(extended, embeddings, 20)
    train(extended)
    before = standing(extended)
    for dry in (False, True):
        refused(Reason.MODEL_NOT_STOCHASTIC, lambda dry=dry: mine(extended, 3, validate_only=dry, **COMMITTEE))  # type: ignore[misc]
    refused(Reason.MODEL_NOT_STOCHASTIC, lambda: next_batch(extended, 3, plan=Plan(**COMMITTEE)))
    assert standing(extended) == before
    train(extended, members=4)
    head = pool_of(extended).snapshot.head
    assert head is not None
    members = (
        pool_of(extended)
        .derived.get(PredictionCache)
        .heads.predict_members(head.weights, embeddings, len(pool_of(extended).snapshot.pool.class_names))
    )
    spread = members.std(axis=0).mean(axis=1)
    open_rows = np.arange(20, 40)
    expected = open_rows[np.argsort(-spread[open_rows], kind="stable")][:3]
    result = mine(extended, 3, **COMMITTEE)
    assert rows_of(result) == expected.tolist()
    assert result.provenance.source == "head"


def test_an_array_that_the_server_cannot_compute_is_named(extended: Assay) -> None:
    fill(extended, 5)
    plan = {"scores": (ScoreTerm("graphic"),), "select": SelectTerm("top")}
    for dry in (False, True):
        error = refused(Reason.NEED_MISSING, lambda dry=dry: mine(extended, 3, validate_only=dry, **plan))  # type: ignore[misc]
        assert error.metadata["needs"] == "knn_graph"


def test_a_selector_gets_no_placeholder_for_a_missing_prediction(extended: Assay) -> None:
    add(extended, names(0, 10), predictions_NC=probabilities(10), attributes={})
    doubt = {"select": SelectTerm("doubt")}
    probs, embeddings = probabilities(10), vectors(10)
    worth = (1 - probs.max(axis=1)) * np.linalg.norm(embeddings, axis=1)
    assert rows_of(mine(extended, 4, **doubt)) == np.argsort(-worth, kind="stable")[:4].tolist()
    add(extended, ["bare"])
    error = refused(Reason.NEED_MISSING, lambda: mine(extended, 4, **doubt))
    assert error.metadata["missing"] == "1"
    assert len(mine(extended, 4, filter=Not(HasId(("bare",))), **doubt).picks) == 4

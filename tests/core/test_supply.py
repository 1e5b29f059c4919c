"""What strategies are given: every array that the server can supply, what is optional where there is any, and a clear
refusal of the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

import assay.strategies
from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.labeling.messages import BatchSpec
from assay.server.core.mining.plan.terms import Plan, ScoreTerm, SelectTerm
from assay.server.core.pools.pool import NO_KEY
from assay.strategies import Candidates, Need, NoParams, Selection, Strategy
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    fill,
    label_by_sign,
    make_pool,
    names,
    pool_of,
    probabilities,
    refused,
    train,
    vectors,
)
from tests.core.mining import all_probs, mine, rows_of

COUNT, LABELED = 30, 10
EVERYTHING = frozenset(
    {
        Need.LOGITS,
        Need.PROBS,
        Need.EMBEDDINGS,
        Need.MEMBER_PROBS,
        Need.LABELED_EMBEDDINGS,
        Need.LABELED_CLASSES,
        Need.LABELED_PROBS,
        Need.QUERY_EMBEDDINGS,
        Need.HEAD_WEIGHTS,
        Need.HEAD_BIAS,
        Need.WORTH,
    }
)
BEYOND = frozenset(Need) - EVERYTHING


@dataclass(frozen=True)
class Reader:
    """Somebody's selector that takes the first candidates, and keeps what it was given."""

    name: str
    needs: frozenset[Need] = frozenset()
    optional: frozenset[Need] = frozenset()
    summary: str = "Reads what it asked for."
    params: type[NoParams] = NoParams
    deterministic: bool = True
    needs_utility: bool = False
    seen: dict[Need, np.ndarray] = field(default_factory=dict, hash=False)

    def select(self, candidates: Candidates, size: int, rng: object, utility: object, params: NoParams) -> Selection:
        self.seen.clear()
        self.seen.update({need: candidates.array(need) for need in self.needs | self.optional if candidates.has(need)})
        return Selection(np.arange(size), np.zeros(size, np.float32))


@dataclass(frozen=True)
class Nearness:
    """Somebody's scorer that compares each candidate with what is known."""

    name: str = "nearness"
    summary: str = "Near to what is labeled or leased."
    needs: frozenset[Need] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.LABELED_CLASSES})
    params: type[NoParams] = NoParams

    def score(self, block: Candidates, params: NoParams) -> np.ndarray:
        gaps = block.embeddings_ND[:, None] - block.labeled_embeddings_LD[block.labeled_classes_L < 0]
        nearness: np.ndarray = 1 / (1 + np.linalg.norm(gaps, axis=2).min(axis=1))
        return nearness.astype(np.float32)


@dataclass(frozen=True)
class Shelf:
    """The shipped strategies and those of another package."""

    others: tuple[Strategy, ...]

    def names(self) -> tuple[str, ...]:
        return (*assay.strategies.names(), *(strategy.name for strategy in self.others))

    def get(self, name: str) -> Strategy:
        own = {strategy.name: strategy for strategy in self.others}
        return own[name] if name in own else assay.strategies.get(name)


READERS = {
    "all": Reader("all", EVERYTHING),
    "any": Reader("any", optional=EVERYTHING | BEYOND),
    "labeled_probs": Reader("labeled_probs", frozenset({Need.LABELED_PROBS, Need.LABELED_CLASSES})),
    "logits": Reader("logits", frozenset({Need.LOGITS})),
    "head": Reader("head", frozenset({Need.HEAD_WEIGHTS, Need.HEAD_BIAS})),
    "seeker": Reader("seeker", frozenset({Need.QUERY_EMBEDDINGS, Need.EMBEDDINGS})),
    **{need.value: Reader(need.value, frozenset({need})) for need in BEYOND},
}


@pytest.fixture
def shelf(house: House) -> Assay:
    """A pool with strategies of another package."""
    house.registry = Shelf((*READERS.values(), Nearness()))
    opened = house.open()
    make_pool(opened)
    return opened


def read(core: Assay, name: str, size: int = 2, **spec: object) -> dict[Need, np.ndarray]:
    mine(core, size, select=SelectTerm(name), **spec)
    return READERS[name].seen


def test_all_that_the_server_has_is_given(shelf: Assay) -> None:
    embeddings = fill(shelf, COUNT, step=10)
    label_by_sign(shelf, embeddings, LABELED)
    train(shelf, members=3)
    batch = shelf.labeling.next_batch(POOL, BatchSpec("bob", 2, Plan("random")), NO_KEY)
    leased = sorted(rows_of(batch))
    open_rows = [row for row in range(LABELED, COUNT) if row not in leased]
    seen = read(shelf, "all", query=("s3", "s20"))
    known = [*range(LABELED), *leased]
    np.testing.assert_array_equal(seen[Need.EMBEDDINGS], embeddings[open_rows])
    np.testing.assert_array_equal(seen[Need.LABELED_EMBEDDINGS], embeddings[known])
    classes = [0 if embeddings[row, 0] > 0 else 1 for row in range(LABELED)]
    assert seen[Need.LABELED_CLASSES].tolist() == [*classes, -1, -1]
    np.testing.assert_array_equal(seen[Need.QUERY_EMBEDDINGS], embeddings[[3, 20]])
    probs = all_probs(shelf, COUNT)
    np.testing.assert_allclose(seen[Need.LABELED_PROBS], probs[known], atol=1e-6)
    np.testing.assert_allclose(seen[Need.PROBS], probs[open_rows], atol=1e-6)
    logits = embeddings[open_rows] @ seen[Need.HEAD_WEIGHTS].T + seen[Need.HEAD_BIAS]
    np.testing.assert_allclose(seen[Need.LOGITS], logits, atol=1e-4)
    assert seen[Need.MEMBER_PROBS].shape == (3, len(open_rows), 3)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    first = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seen[Need.MEMBER_PROBS][0], first, atol=1e-5)
    assert mine(shelf, 1, select=SelectTerm("all"), query=("s3",)).provenance.source == "head"


def test_optional_arrays_are_given_where_there_are_any(shelf: Assay) -> None:
    embeddings = fill(shelf, COUNT)
    always = {Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.LABELED_CLASSES, Need.WORTH}
    seen = read(shelf, "any")
    assert seen.keys() == always
    assert seen[Need.LABELED_EMBEDDINGS].shape == (0, 4)
    assert seen[Need.WORTH] == pytest.approx(2 / 3), "nothing is known of any"
    label_by_sign(shelf, embeddings, LABELED)
    train(shelf)
    assert read(shelf, "any").keys() == EVERYTHING - {Need.MEMBER_PROBS, Need.QUERY_EMBEDDINGS}
    train(shelf, members=2)
    assert read(shelf, "any", query=("s1",)).keys() == EVERYTHING


def test_pushed_predictions_are_no_logits(shelf: Assay) -> None:
    add(shelf, names(0, COUNT), predictions_NC=probabilities(COUNT))
    seen = read(shelf, "any")
    assert seen.keys() & {Need.LOGITS, Need.PROBS, Need.LABELED_PROBS} == {Need.PROBS, Need.LABELED_PROBS}
    np.testing.assert_array_equal(seen[Need.PROBS], probabilities(COUNT))
    error = refused(Reason.NEED_MISSING, lambda: read(shelf, "logits"))
    assert "probabilities only" in error.message


def test_known_samples_without_a_prediction_are_left_out_where_it_is_needed(shelf: Assay) -> None:
    add(shelf, names(0, 10), predictions_NC=probabilities(10))
    add(shelf, names(10, 14), vectors(4))
    annotate(shelf, {"s0": "ant", "s11": "bee", "s4": "cow"})
    annotate(shelf, {"s10": "ant", "s12": "ant", "s13": "ant"})
    seen = read(shelf, "labeled_probs")
    assert seen[Need.LABELED_CLASSES].tolist() == [0, 2]
    np.testing.assert_array_equal(seen[Need.LABELED_PROBS], probabilities(10)[[0, 4]])
    others = read(shelf, "any")
    assert Need.LABELED_PROBS not in others
    assert len(others[Need.LABELED_CLASSES]) == 6


def test_optional_arrays_too_large_to_hold_are_left_out(house: House) -> None:
    house.registry = Shelf(tuple(READERS.values()))
    core = house.with_limits(max_selector_bytes=COUNT * 4 * 4 - 1).open()
    make_pool(core)
    fill(core, COUNT)
    seen = read(core, "any")
    assert Need.EMBEDDINGS not in seen
    assert Need.LABELED_EMBEDDINGS in seen


def test_members_too_large_to_hold_ask_for_a_shortlist(house: House) -> None:
    core = house.with_limits(max_selector_bytes=COUNT * 4 * 4).open()
    make_pool(core)
    label_by_sign(core, fill(core, COUNT), LABELED)
    train(core, members=8)
    refused(Reason.INVALID_PLAN, lambda: mine(core, 2, "batch_bald"))
    assert len(mine(core, 2, "bald").picks) == 2


@pytest.mark.parametrize("need", sorted(BEYOND))
def test_what_no_server_computes_is_refused_by_name(shelf: Assay, need: Need) -> None:
    fill(shelf, COUNT)
    for dry in (False, True):
        refusal = refused(Reason.NEED_MISSING, partial(read, shelf, need.value, validate_only=dry))
        assert need.value in refusal.message


@pytest.mark.parametrize("name", ["labeled_probs", "logits", "head"])
def test_what_only_a_model_gives_is_refused_without_one(shelf: Assay, name: str) -> None:
    embeddings = fill(shelf, COUNT)
    asked: Callable[[], object] = partial(read, shelf, name)
    assert "head" in refused(Reason.NEED_MISSING, asked).message
    label_by_sign(shelf, embeddings, LABELED)
    train(shelf)
    asked()


def test_a_targeted_strategy_needs_a_query(shelf: Assay) -> None:
    fill(shelf, COUNT)
    error = refused(Reason.INVALID_PLAN, lambda: read(shelf, "seeker"))
    assert "'seeker'" in error.message
    assert "query" in error.message
    refused(Reason.SAMPLE_NOT_FOUND, lambda: read(shelf, "seeker", query=("s0", "nobody")))
    assert len(read(shelf, "seeker", query=("s0",))[Need.QUERY_EMBEDDINGS]) == 1


def test_scorers_are_given_what_is_leased_too(shelf: Assay) -> None:
    embeddings = fill(shelf, COUNT)
    annotate(shelf, {"s0": "ant"})
    batch = shelf.labeling.next_batch(POOL, BatchSpec("bob", 1, Plan("random")), NO_KEY)
    (leased,) = rows_of(batch)
    result = mine(shelf, 3, scores=(ScoreTerm("nearness"),), select=SelectTerm("top"))
    gaps = np.linalg.norm(embeddings.astype(np.float64) - embeddings[leased], axis=1)
    expected = [row for row in np.argsort(gaps) if row not in (0, leased)][:3]
    assert rows_of(result) == expected
    assert pool_of(shelf).snapshot.conditioned_rows.tolist() == [0, leased]

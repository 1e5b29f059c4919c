"""Samples of the splits "test" and "validation": never picked, never learned from, always scored."""

from functools import partial

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.mining.messages import ScoreSpec
from assay.server.core.mining.plan.terms import Plan, Shortlist
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.samples import AttributeColumn
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    label_by_sign,
    names,
    next_batch,
    numbers,
    pool_of,
    refused,
    train,
    vectors,
)
from tests.core.mining import mine, rows_of

COUNT, APART = 60, 24


@pytest.fixture
def divided(core: Assay) -> Assay:
    """The first 24 of 60 are set apart, in two files."""
    embeddings, splits = vectors(COUNT), ["test", "validation"] * 12 + ["train", ""] * 18
    for start, stop in ((0, 40), (40, COUNT)):
        split = AttributeColumn("string", splits[start:stop])
        attributes = {"split": split, "n": numbers(range(start, stop))}
        add(core, names(start, stop), embeddings[start:stop], attributes=attributes)
    return core


@pytest.mark.parametrize("preset", ["random", "k_center", "margin", "margin_k_center", "seals_margin", "max_herding"])
def test_no_plan_picks_them(divided: Assay, preset: str) -> None:
    label_by_sign(divided, vectors(COUNT), 30)
    train(divided)
    plan = Plan(preset=preset, exploration=0.3, shortlist=Shortlist(size=30) if preset == "margin" else None)
    picked = rows_of(mine(divided, 30, preset, exploration=plan.exploration, shortlist=plan.shortlist))
    assert sorted(picked) == list(range(30, COUNT))
    assert set(rows_of(next_batch(divided, 30, plan=plan))) == set(range(30, COUNT))


def test_who_asks_for_more_is_told_why_there_are_no_more(divided: Assay) -> None:
    error = refused(Reason.POOL_EXHAUSTED, partial(mine, divided, 37, "random"))
    assert "24 more are set apart" in error.message
    assert (error.metadata["candidates"], error.metadata["set_apart"]) == ("36", "24")
    next_batch(divided, 36, plan=Plan("random"))
    refused(Reason.POOL_EXHAUSTED, partial(next_batch, divided, 1, "bob", plan=Plan("random")))


def test_they_are_scored_as_all_others(divided: Assay) -> None:
    label_by_sign(divided, vectors(COUNT), 40)
    train(divided)
    stream = divided.mining.score(POOL, ScoreSpec(Plan("margin"), states=tuple(divided.pools.get(POOL).counts)))
    assert [sample_id for ids, _ in stream.chunks for sample_id in ids] == names(0, COUNT)


def test_what_is_labeled_among_them_covers_nothing_but_is_not_copied(divided: Assay) -> None:
    """A strategy that covers the pool goes on as if they were not there; only copies of them are left out."""
    before = rows_of(mine(divided, 5, "k_center"))
    annotate(divided, dict.fromkeys(names(0, APART), "ant"))
    assert rows_of(mine(divided, 5, "k_center")) == before
    assert pool_of(divided).snapshot.conditioned_rows.tolist() == []
    add(divided, ["copy"], vectors(COUNT)[:1], attributes={"n": numbers([COUNT])})
    assert COUNT in rows_of(mine(divided, 37, "random"))
    assert COUNT not in rows_of(mine(divided, 36, "random", near_duplicate_radius=1e-3))
    refused(Reason.POOL_EXHAUSTED, partial(mine, divided, 37, "random", near_duplicate_radius=1e-3))


def test_they_are_known_again_after_a_restart(house: House, divided: Assay) -> None:
    assert pool_of(divided).snapshot.set_apart.tolist() == [*range(0, APART, 2), *range(1, APART, 2)]
    divided.samples.delete(POOL, names(0, 2), False, NO_KEY)
    opened = house.open()
    rows = rows_of(mine(opened, 36, "random"))
    assert min(rows) >= APART
    np.testing.assert_array_equal(pool_of(opened).snapshot.split_rows("validation"), np.arange(1, APART, 2))

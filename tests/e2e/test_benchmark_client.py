"""A benchmark: every strategy on the same data, scores that agree with the definitions, picks that repeat."""

from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from assay.client import Classification, Plan, scorer, selector
from tests.e2e.corpus import CLASSES


def least_confidence(probs_NC):
    return 1 - probs_NC.max(axis=1)


def margin(probs_NC):
    two_NC = np.sort(probs_NC, axis=1)[:, -2:]
    return 1 - (two_NC[:, 1] - two_NC[:, 0])


def entropy(probs_NC):
    return -np.sum(probs_NC * np.log(np.maximum(probs_NC, 1e-30)), axis=1)


def ratio(probs_NC):
    two_NC = np.sort(probs_NC, axis=1)[:, -2:]
    return two_NC[:, 0] / two_NC[:, 1]


DEFINITIONS = {definition.__name__: definition for definition in (least_confidence, margin, entropy, ratio)}


@pytest.fixture(scope="module")
def trained(client, corpus):
    """A pool with a head."""
    pool = corpus.create(client, "benchmark")
    corpus.label(client, pool, corpus.ids[:40])
    client.train_head(pool).result(timeout=60)
    return pool


@pytest.fixture(scope="module")
def committee(client, corpus):
    """A pool with a head of four members."""
    pool = corpus.create(client, "committee")
    corpus.label(client, pool, corpus.ids[:40])
    client.train_head(pool, members=4).result(timeout=60)
    return pool


@pytest.fixture(scope="module")
def pushed(client, corpus):
    """A pool whose predictions come with the samples."""
    client.create_pool("pushed", task=Classification(CLASSES))
    probs_NC = np.random.default_rng(4).dirichlet(np.full(len(CLASSES), 0.5), len(corpus.ids))
    client.add_samples("pushed", corpus.ids, embeddings=corpus.embeddings_ND, predictions=probs_NC)
    return "pushed"


@pytest.mark.parametrize("source", ["trained", "pushed"])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_scores_are_what_the_definition_says_of_the_predictions(client, request, source, name):
    pool = request.getfixturevalue(source)
    scored = client.score(pool, Plan(scores=[scorer(name)]))
    assert len(scored.ids) == client.get_pool(pool).counts.unlabeled
    probs_NC = client.predict(pool, samples=scored.ids).probs_NC
    np.testing.assert_allclose(scored.scores_N, DEFINITIONS[name](probs_NC), atol=2e-5)
    preset = client.score(pool, name)
    assert (preset.ids, preset.scores_N.tolist()) == (scored.ids, scored.scores_N.tolist())
    assert scored.provenance.prediction_source == {"trained": "head", "pushed": "pushed"}[source]


def test_labeled_samples_are_scored_where_asked_for(client, corpus, trained):
    everything = client.score(trained, "margin", states=["unlabeled", "labeled"])
    assert everything.ids == corpus.ids
    left = client.score(trained, "margin")
    assert left.ids == corpus.ids[40:]
    np.testing.assert_array_equal(left.scores_N, everything.scores_N[40:])


def test_several_scores_multiply_by_their_strengths(client, trained):
    plan = Plan(scores=[scorer("margin", strength=2.0), scorer("entropy")])
    scored = client.score(trained, plan)
    probs_NC = client.predict(trained, samples=scored.ids).probs_NC
    np.testing.assert_allclose(scored.scores_N, margin(probs_NC) ** 2 * entropy(probs_NC), atol=5e-5)
    best = np.argsort(-scored.scores_N, kind="stable")[:12]
    assert client.mine(trained, 12, plan).ids == [scored.ids[index] for index in best]


@pytest.mark.parametrize("name", ["random", "least_confidence", "margin", "entropy", "k_center", "margin_k_center"])
def test_the_same_seed_picks_the_same(client, trained, name):
    plan = Plan.preset(name, exploration=0.25)
    first, again, other = (client.mine(trained, 16, plan, seed=seed) for seed in (7, 7, 8))
    assert first.ids == again.ids
    assert [pick.score for pick in first.picks] == [pick.score for pick in again.picks]
    assert first.provenance == again.provenance
    assert first.ids != other.ids
    assert len(set(first.ids)) == 16


def test_random_picks_depend_on_nothing_but_the_seed_and_the_candidates(client, trained, pushed):
    unlabeled = {sample.id for sample in client.list_samples(trained, states=["unlabeled"])}
    picks = client.mine(pushed, 120, "random", seed=3).ids
    assert sorted(picks) == sorted(sample.id for sample in client.list_samples(pushed))
    assert [name for name in picks if name in unlabeled] == client.mine(trained, len(unlabeled), "random", seed=3).ids


def test_strategies_are_listed_with_schemas_that_hold(client):
    known = list(client.list_strategies())
    kinds = {entry.name: entry.kind for entry in known}
    assert {name for name, kind in kinds.items() if kind == "scorer"} >= DEFINITIONS.keys()
    assert {name for name, kind in kinds.items() if kind == "selector"} >= {"k_center", "random", "top"}
    for entry in known:
        jsonschema.Draft202012Validator.check_schema(entry.params_schema)
        jsonschema.validate({}, entry.params_schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"no_such_parameter": 1}, entry.params_schema)
        assert entry.summary
    needs = {entry.name: entry.needs for entry in known}
    assert (needs["margin"], needs["random"]) == (("probs",), ())
    assert "embeddings" in needs["k_center"]


def test_every_preset_is_a_plan_that_can_be_sent_back(client, committee, corpus):
    listed = list(client.list_strategies())
    query = corpus.ids[:3]
    for preset in client.list_presets():
        by_name = client.mine(committee, 5, Plan.preset(preset.name, query=query), seed=2)
        assert len(set(by_name.ids)) == 5, preset.name
        spelled_out = client.mine(committee, 5, replace(preset.plan, query=query), seed=2)
        assert spelled_out.ids == by_name.ids, preset.name
        assert Plan.from_dict(by_name.plan.to_dict()) == by_name.plan
    scorers = {entry.name for entry in listed if entry.kind == "scorer"}
    assert all(entry.deterministic for entry in listed if entry.name in scorers)
    utilities = {entry.name for entry in listed if entry.needs_utility}
    assert "top" in utilities
    assert not utilities & scorers


def test_a_selector_takes_its_parameters(client, trained, pushed):
    plans = [Plan(select=selector("k_center", metric=metric)) for metric in ("l2", "cosine")]
    by_l2, by_cosine = (client.mine(trained, 5, plan) for plan in plans)
    # On vectors of length 1 both distances order alike.
    assert by_l2.ids == by_cosine.ids
    assert by_l2.provenance.plan_digest != by_cosine.provenance.plan_digest
    assert by_cosine.plan.select.params["metric"] == "cosine"
    assert client.mine(pushed, 5, Plan(select=selector("k_center", start="first"))).ids[0] == "d000"

"""A team that composes its plans: quotas by class, no near copies, a draw instead of a ranking, while others hold
samples; and what it is told where that cannot be."""

import numpy as np
import pytest

from assay.client import (
    AsyncClient,
    Plan,
    PoolExhausted,
    Quota,
    QuotaInfeasible,
    Quotas,
    Shortfall,
    Shortlist,
    attr,
    scorer,
    selector,
)
from assay.client.cli import main
from tests.e2e.corpus import CLASSES, Corpus

RADIUS = 0.35
COUNT = 600


@pytest.fixture(scope="module")
def twins():
    """A corpus in which every sample from d300 on is a near copy of the one three hundred before it."""
    corpus = Corpus(COUNT, seed=5)
    rng = np.random.default_rng(6)
    half = COUNT // 2
    corpus.embeddings_ND[half:] = corpus.embeddings_ND[:half] + 0.01 * rng.normal(size=(half, 8)).astype(np.float32)
    return corpus


@pytest.fixture
def labeled(client, twins, pool):
    """Its pool, sixty labels and a head in it, and the class that the model predicts for each sample."""
    twins.create(client, pool)
    twins.label(client, pool, twins.ids[:60])
    client.train_head(pool).result(timeout=60)
    probs_NC = client.predict(pool, samples=twins.ids).probs_NC
    return pool, dict(zip(twins.ids, (CLASSES[c] for c in probs_NC.argmax(axis=1)), strict=True))


def distances(corpus, ids, others):
    """From each sample to the nearest of the others that is not itself, as a cosine pool measures them."""
    unit = corpus.embeddings_ND / np.linalg.norm(corpus.embeddings_ND, axis=1, keepdims=True)
    place = {sample_id: row for row, sample_id in enumerate(corpus.ids)}
    gaps = np.linalg.norm(unit[[place[i] for i in ids]][:, None] - unit[[place[i] for i in others]], axis=2)
    gaps[np.array(ids)[:, None] == np.array(others)] = np.inf
    return gaps.min(axis=1)


def test_a_team_mines_a_balanced_batch_without_copies_while_others_work(client, twins, labeled):
    pool, predicted = labeled
    plan = Plan.preset(
        "power_margin",
        quotas=Quotas([Quota("sport", 8), Quota("science", 4, 6), Quota("politics", target=0.5)]),
        near_duplicate_radius=RADIUS,
        exploration=0.1,
    )
    held = client.next_batch(pool, "bob", 15, plan=plan, seed=1)
    mine = client.next_batch(pool, "ann", 30, plan=plan, seed=1)

    for batch in (held, mine):
        counts = {name: sum(predicted[sample_id] == name for sample_id in batch.ids) for name in CLASSES}
        assert counts["sport"] >= 8
        assert 4 <= counts["science"] <= 6
        assert [(report.value, report.picked) for report in batch.quotas] == [
            ("sport", counts["sport"]),
            ("science", counts["science"]),
            ("politics", counts["politics"]),
        ]
    assert mine.quotas[2].target == 0.5
    assert (mine.quotas[1].minimum, mine.quotas[1].maximum) == (4, 6)
    assert mine.quotas[0].available == held.quotas[0].available - held.quotas[0].picked
    assert len(mine.ids) == 30
    assert sum(pick.exploring for pick in mine.picks) == 3

    known = [*twins.ids[:60], *held.ids, *mine.ids]
    assert distances(twins, mine.ids, known).min() > RADIUS
    assert distances(twins, held.ids, [*twins.ids[:60], *held.ids]).min() > RADIUS
    # Without the radius the same plan takes copies of what is labeled or held.
    careless = client.mine(pool, 60, Plan.preset("power_margin"), seed=1)
    assert distances(twins, careless.ids, [*known, *careless.ids]).min() < RADIUS

    # What others hold changes what is picked: by design.
    again = client.mine(pool, 30, plan, seed=1)
    assert not set(again.ids) & {*held.ids, *mine.ids}
    client.release_lease(mine.lease)
    after = client.mine(pool, 30, plan, seed=1)
    assert after.ids == mine.ids
    assert client.mine(pool, 30, plan, seed=2).ids != after.ids
    assert after.plan.stochastic.kind == "power"


def test_quotas_that_cannot_be_met_say_which_and_by_how_much(client, twins, labeled, server, capsys):
    pool, predicted = labeled
    science = sum(predicted[sample_id] == "science" for sample_id in twins.ids[60:])
    plan = Plan.preset("margin", quotas=Quotas([Quota("science", science + 1), Quota("sport", maximum=9)]))
    for call in (
        lambda: client.mine(pool, science + 20, plan),
        lambda: client.mine(pool, science + 20, plan, validate_only=True),
        lambda: client.next_batch(pool, "ann", science + 20, plan=plan),
    ):
        with pytest.raises(QuotaInfeasible) as caught:
            call()
        assert f"class 'science' needs {science + 1} picks and has {science} candidates" in caught.value.message
        assert caught.value.shortfalls == (Shortfall("science", "minimum", science + 1, science),)
        assert caught.value.metadata["by"] == "predicted class"
    assert client.get_pool(pool).counts.leased == 0
    command = ["--server", server.target, "mine", pool, "500", "--quota", f"science={science + 1}.."]
    assert main(command) == 4
    assert "QUOTA_INFEASIBLE: The quotas cannot be met: class 'science' needs" in capsys.readouterr().err


def test_the_command_line_composes_the_same_plan(client, twins, labeled, server, capsys):
    pool, predicted = labeled
    options = ["--quota", "sport=5..", "--quota", "science=20%", "--apart", str(RADIUS), "--explore", "0.2"]
    assert main(["--server", server.target, "mine", pool, "10", "--no-payload", "--seed", "4", *options]) == 0
    out = capsys.readouterr().out
    quotas = Quotas([Quota("sport", 5), Quota("science", target=0.2)])
    plan = Plan.preset("margin", quotas=quotas, near_duplicate_radius=RADIUS, exploration=0.2)
    same = client.mine(pool, 10, plan, seed=4)
    assert [line.split()[1] for line in out.splitlines()[1:11]] == same.ids
    assert out.splitlines()[12].split() == ["group", "picked", "of", "at", "least", "at", "most", "wished"]
    report = same.quotas[0]
    assert out.splitlines()[13].split() == ["sport", str(report.picked), str(report.available), "5", "-", "-"]
    assert sum(predicted[sample_id] == "sport" for sample_id in same.ids) >= 5
    batch = ["next", pool, "3", "--worker", "ann", "--by", "lang", "--quota", "de=2", "--quota", "en=1"]
    assert main(["--server", server.target, *batch]) == 0
    assert "de     2" in capsys.readouterr().out


def test_groups_by_attribute_and_a_selector_within_each(client, twins, labeled):
    pool, _ = labeled
    plan = Plan(
        scores=[scorer("margin"), scorer("entropy", strength=2.0)],
        combination="rank_sum",
        shortlist=Shortlist(per_pick=5),
        select=selector("k_center"),
        quotas=Quotas([Quota("de", 6, 6), Quota("en", target=0.5)], by="lang"),
    )
    mined = client.mine(pool, 12, plan, where=attr("words") >= 60)
    languages = [pick.sample.attributes["lang"] for pick in mined.picks]
    assert (languages.count("de"), languages.count("en")) == (6, 6)
    assert [report.picked for report in mined.quotas] == [6, 6]
    assert mined.plan.combination == "rank_sum"
    assert [part.strategy for part in mined.picks[0].parts] == ["margin", "entropy"]


def test_the_neighbours_of_labels_only(client, twins, labeled):
    pool, _ = labeled
    plan = Plan.preset("seals_margin", shortlist=Shortlist(neighbors=1))
    mined = client.mine(pool, 20, plan)
    # The nearest of each of d000 .. d059 is its copy.
    assert set(mined.ids) <= set(twins.ids[300:360])
    everywhere = client.mine(pool, 20, "margin")
    assert set(everywhere.ids) != set(mined.ids)


def test_when_all_that_is_left_is_a_copy(client, twins, labeled):
    pool, _ = labeled
    plan = Plan.preset("margin", near_duplicate_radius=RADIUS)
    copies = attr("words").isin(range(300, 360))
    with pytest.raises(PoolExhausted, match="farther than near_duplicate_radius"):
        client.mine(pool, 1, plan, where=copies)
    with pytest.raises(PoolExhausted, match="farther than near_duplicate_radius"):
        client.next_batch(pool, "ann", 5, plan=plan, where=copies)
    some = client.next_batch(pool, "ann", 500, plan=plan)
    assert 0 < len(some.ids) < 300


async def test_both_clients_compose_alike(server, client, labeled):
    pool, _ = labeled
    plan = Plan.preset("power_margin", quotas=Quotas([Quota("sport", 3)]), near_duplicate_radius=RADIUS)
    async with AsyncClient(server.target) as asynchronous:
        theirs = await asynchronous.mine(pool, 8, plan, seed=3)
        with pytest.raises(QuotaInfeasible):
            await asynchronous.mine(pool, 2, plan, seed=3)
    ours = client.mine(pool, 8, plan, seed=3)
    assert (ours.ids, ours.quotas) == (theirs.ids, theirs.quotas)

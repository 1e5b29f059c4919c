"""A pipeline: its own backbone in the server, mining rounds, retraining, a second backbone, and back."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from assay.client import (
    Cancelled,
    Classification,
    Client,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Plan,
    PoolExhausted,
    Shortlist,
    attr,
    scorer,
    selector,
)
from assay.client.testing import ServerProcess, start_server
from tests.e2e.corpus import CLASSES
from tests.models.onnx_factory import linear_embedder, weights_of

FEATURES = 12
COUNT = 240
LABELED = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of this file's own: one story restarts it."""
    with start_server(tmp_path_factory.mktemp("assay"), log_level="warning") as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the server where it is now."""
    with server.client() as client:
        yield client


class Project:
    """Raw inputs with their true classes, and the backbones that embed them."""

    def __init__(self, folder):
        rng = np.random.default_rng(3)
        self.classes_N = rng.integers(0, len(CLASSES), COUNT)
        centers_CF = 2 * rng.normal(size=(len(CLASSES), FEATURES))
        self.features_NF = (centers_CF[self.classes_N] + rng.normal(size=(COUNT, FEATURES))).astype(np.float32)
        self.ids = [f"x{index:03}" for index in range(COUNT)]
        self.small = linear_embedder(folder / "small.onnx", FEATURES, 6, seed=1)
        self.large = linear_embedder(folder / "large.onnx", FEATURES, 9, seed=2)

    def start(self, client, pool):
        """A pool with the small backbone active and the samples in it; returns the backbone."""
        client.create_pool(pool, task=Classification(CLASSES))
        uploaded = client.upload_backbone(pool, self.small, model_id="small", display_name="first")
        backbone = client.activate_model(uploaded).result(timeout=60)
        client.add_samples(
            pool,
            self.ids,
            inputs={"features": self.features_NF},
            attributes={"part": ["train" if index % 4 else "hold" for index in range(COUNT)]},
            request_id="first load",
        )
        return backbone

    def label(self, client, pool, ids):
        """Labels samples by the truth."""
        labels = {sample_id: CLASSES[self.classes_N[int(sample_id[1:])]] for sample_id in ids}
        return client.annotate(pool, labels, "oracle")

    def train(self, client, pool, **options):
        """Labels the first samples if none are, and trains and activates a head."""
        if client.get_pool(pool).counts.labeled == 0:
            self.label(client, pool, self.ids[:LABELED])
        return client.train_head(pool, **options).result(timeout=60)

    def embeddings(self, path):
        """What a backbone makes of all samples, scaled to length 1 as in a cosine pool."""
        vectors_ND = self.features_NF @ weights_of(path)["W"]
        return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("models"))


def margins(client, pool, ids):
    """1 - (p1 - p2) of samples, from what the server predicts for them."""
    two_NC = np.sort(client.predict(pool, samples=ids).probs_NC, axis=1)[:, -2:]
    return 1 - (two_NC[:, 1] - two_NC[:, 0])


def farthest_first(vectors_ND, chosen, candidates, size):
    """Greedy k-center by the definition: again and again the candidate farthest from all that is chosen."""
    picks = []
    for _ in range(size):
        gaps_NK = vectors_ND[candidates, None] - vectors_ND[None, [*chosen, *picks]]
        nearest_N = np.square(gaps_NK).sum(axis=2).min(axis=1)
        picks.append(int(candidates[int(nearest_N.argmax())]))
    return picks


def test_a_backbone_is_uploaded_looked_at_and_activated(client, project, pool):
    client.create_pool(pool, task=Classification(CLASSES))
    sent = []
    model = client.upload_backbone(pool, project.small, progress=lambda done, total: sent.append((done, total)))
    assert sent[-1] == (model.backbone.size_bytes, model.backbone.size_bytes)
    assert (model.kind, model.active) == ("backbone", False)
    assert (model.backbone.dimension, model.backbone.embedding_output, model.backbone.pooling) == (
        6,
        "embedding",
        "none",
    )
    assert [(spec.name, spec.dtype, spec.shape) for spec in model.backbone.inputs] == [
        ("features", "float32", (-1, FEATURES))
    ]
    assert client.get_pool(pool).active_backbone is None
    operation = client.activate_model(model)
    assert (operation.last_progress.kind, operation.last_progress.pool) == ("activate_model", f"pools/{pool}")
    assert operation.result(timeout=60) == replace(model, active=True)
    found = client.get_pool(pool)
    assert (found.active_backbone, found.dimension) == (model.name, 6)


def test_the_server_embeds_what_is_added(client, project, pool):
    project.start(client, pool)
    got = client.predict(pool, samples=project.ids, include_embeddings=True)
    np.testing.assert_allclose(got.embeddings_ND, project.embeddings(project.small), atol=1e-5)
    assert (got.probs_NC, got.prediction_source) == (None, "none")
    nearest = client.search(pool, samples=[project.ids[0]], k=5)
    similarities_N = project.embeddings(project.small) @ project.embeddings(project.small)[0]
    order = [row for row in np.argsort(-similarities_N) if row != 0][:5]
    assert [hit.sample.id for hit in nearest.hits[0]] == [project.ids[row] for row in order]


def test_a_round_mines_by_each_plan_and_says_why(client, project, pool):
    backbone = project.start(client, pool)
    head = project.train(client, pool)
    vectors_ND = project.embeddings(project.small)
    labeled, left = list(range(LABELED)), np.arange(LABELED, COUNT)

    by_margin = client.mine(pool, 10, "margin", predictions=1)
    margin_N = margins(client, pool, project.ids)
    assert by_margin.ids == [project.ids[row] for row in left[np.argsort(-margin_N[left], kind="stable")[:10]]]
    provenance = by_margin.provenance
    assert (provenance.backbone, provenance.head, provenance.prediction_source) == (backbone.name, head.name, "head")
    assert (provenance.candidates, provenance.epoch) == (COUNT - LABELED, client.get_pool(pool).epoch)
    assert len(provenance.plan_digest) == 64
    assert {"filter", "score", "select"} <= by_margin.timings.keys()

    spread = client.mine(pool, 6, "k_center")
    assert spread.ids == [project.ids[row] for row in farthest_first(vectors_ND, labeled, left, 6)]
    assert spread.provenance.prediction_source == "none"

    plan = Plan(scores=[scorer("margin")], shortlist=Shortlist(per_pick=5), select=selector("k_center"))
    both = client.mine(pool, 6, plan)
    shortlist = np.sort(left[np.argsort(-margin_N[left], kind="stable")[:30]])
    assert both.ids == [project.ids[row] for row in farthest_first(vectors_ND, labeled, shortlist, 6)]
    assert both.picks[0].parts[0].score == pytest.approx(margin_N[int(both.ids[0][1:])], abs=1e-5)
    preset = client.mine(pool, 4, "margin_k_center")
    assert preset.plan.shortlist == Shortlist(per_pick=50)
    assert preset.ids == [project.ids[row] for row in farthest_first(vectors_ND, labeled, left, 4)]


def test_a_filter_holds_for_every_plan_and_can_be_part_of_one(client, project, pool):
    project.start(client, pool)
    project.train(client, pool)
    held = [sample_id for row, sample_id in enumerate(project.ids) if row % 4 == 0 and row >= LABELED]
    for name in ("random", "margin", "entropy", "least_confidence", "k_center", "margin_k_center"):
        mined = client.mine(pool, 8, Plan.preset(name, where=attr("part") == "hold"))
        assert set(mined.ids) <= set(held)
        assert mined.provenance.candidates == len(held)
        again = client.mine(pool, 8, name, where=attr("part") == "hold")
        assert again.ids == mined.ids
        assert again.provenance.plan_digest == mined.provenance.plan_digest
    with pytest.raises(PoolExhausted):
        client.mine(pool, len(held) + 1, "margin", where=attr("part") == "hold")


def test_a_share_of_the_picks_explores(client, project, pool):
    project.start(client, pool)
    project.train(client, pool)
    best = client.mine(pool, 10, "margin").ids
    mined = client.mine(pool, 10, Plan.preset("margin", exploration=0.4), seed=5)
    exploring = [pick.id for pick in mined.picks if pick.exploring]
    assert mined.ids[:6] == best[:6]
    assert mined.ids[6:] == exploring
    assert len(set(mined.ids)) == 10
    assert client.mine(pool, 10, Plan.preset("margin", exploration=0.4), seed=6).ids[6:] != exploring


def test_a_dry_run_tells_the_cost_and_checks_the_plan(client, project, pool):
    project.start(client, pool)
    project.train(client, pool)
    dry = client.mine(pool, 10, "margin_k_center", validate_only=True)
    assert dry.picks == ()
    assert dry.estimate.candidates == COUNT - LABELED
    assert dry.estimate.bytes_read > 0
    assert dry.estimate.gflop > 0
    assert [term.strategy for term in dry.plan.scores] == ["margin"]
    with pytest.raises(InvalidArgument):
        client.mine(pool, 10, Plan(scores=[scorer("margn")]), validate_only=True)


def test_fresh_inputs_are_predicted_as_the_samples_are(client, project, pool):
    project.start(client, pool)
    head = project.train(client, pool, members=3)
    assert head.head.members == 3
    inside = client.predict(pool, samples=project.ids[:50])
    fresh = client.predict(pool, inputs={"features": project.features_NF[:50]}, include_embeddings=True)
    pushed = client.predict(pool, embeddings=fresh.embeddings_ND)
    np.testing.assert_allclose(fresh.probs_NC, inside.probs_NC, atol=1e-6)
    np.testing.assert_allclose(pushed.probs_NC, inside.probs_NC, atol=1e-6)
    assert inside.head == fresh.head == pushed.head == head.name
    guesses_N = client.predict(pool, samples=project.ids[LABELED:]).probs_NC.argmax(axis=1)
    assert np.mean(guesses_N == project.classes_N[LABELED:]) > 0.8


def test_a_second_backbone_embeds_the_pool_again_and_the_first_comes_back(client, project, pool):
    small = project.start(client, pool)
    head = project.train(client, pool)
    before = client.mine(pool, 10, "margin")
    large = client.upload_backbone(pool, project.large, model_id="large")
    assert client.mine(pool, 10, "margin").ids == before.ids

    client.activate_model(large).result(timeout=60)
    found = client.get_pool(pool)
    assert (found.active_backbone, found.active_head, found.dimension) == (large.name, None, 9)
    assert found.counts.labeled == LABELED
    got = client.predict(pool, samples=project.ids, include_embeddings=True)
    np.testing.assert_allclose(got.embeddings_ND, project.embeddings(project.large), atol=1e-5)
    with pytest.raises(FailedPrecondition) as caught:
        client.activate_model(head)
    assert caught.value.reason == "MODEL_SPACE_MISMATCH"
    second_head = client.train_head(pool).result(timeout=60)
    assert second_head.head.embedding_space != head.head.embedding_space

    assert client.rollback_model(pool, "backbone").result(timeout=60).name == small.name
    found = client.get_pool(pool)
    assert (found.active_backbone, found.active_head, found.dimension) == (small.name, head.name, 6)
    assert client.mine(pool, 10, "margin").ids == before.ids
    client.delete_model(large)
    with pytest.raises(NotFound):
        client.get_model(large)


def test_a_worse_head_is_rolled_back(client, project, pool):
    project.start(client, pool)
    first = project.train(client, pool)
    best = client.mine(pool, 10, "margin").ids
    second = client.train_head(pool, l2=100.0).result(timeout=60)
    assert client.get_pool(pool).active_head == second.name
    assert client.mine(pool, 10, "margin").provenance.head == second.name
    assert client.rollback_model(pool, "head").result(timeout=60).name == first.name
    assert client.mine(pool, 10, "margin").ids == best
    assert [model.active for model in client.list_models(pool, kind="head")] == [False, True]


def test_operations_are_followed_listed_and_cancelled(client, pool):
    # Enough to train on for seconds: the cancellations arrive long before; the third waits behind the first two.
    rng = np.random.default_rng(0)
    names = [f"class-{index}" for index in range(50)]
    classes_N = rng.integers(0, 50, 2000)
    vectors_ND = rng.normal(size=(50, 64))[classes_N] + rng.normal(size=(2000, 64))
    client.create_pool(pool, task=Classification(names))
    labels = [names[index] for index in classes_N]
    client.add_samples(pool, list(map(str, range(2000))), embeddings=vectors_ND, labels=labels)
    started = [client.train_head(pool, folds=20) for _ in range(3)]
    for operation in reversed(started):
        operation.cancel()
    for operation in started:
        with pytest.raises(Cancelled) as caught:
            operation.result(timeout=60)
        assert caught.value.reason == "CANCELLED"
    assert client.get_pool(pool).active_head is None
    assert not list(client.list_models(pool, kind="head"))

    stages = []
    trained = client.train_head(pool, l2=0.01, folds=2)
    model = trained.result(timeout=60, progress=lambda progress: stages.append(progress.stage))
    assert model.active
    assert stages
    assert client.get_operation(trained.name).result() == model
    known = {operation.name: operation.is_done for operation in client.list_operations()}
    assert all(known[operation.name] for operation in [*started, trained])


def test_a_restart_keeps_everything(server, project, pool):
    with server.client() as client:
        project.start(client, pool)
        project.train(client, pool, members=2)
        batch = client.next_batch(pool, "ann", 5, ttl=600, request_id="a batch")
        trained = next(iter(client.list_models(pool, kind="head")))
        before, mined = client.get_pool(pool), client.mine(pool, 10, "margin", seed=4)
        labels, models = list(client.list_labels(pool)), list(client.list_models(pool))
        operations = {operation.name for operation in client.list_operations()}
    assert server.stop() == 0
    server.start()
    with server.client() as client:
        after = client.get_pool(pool)
        # Merging and indexing go on in the background and say nothing of what is stored.
        same = {"index": before.index, "segments": before.segments, "epoch": before.epoch}
        assert replace(after, **same) == before
        again = client.mine(pool, 10, "margin", seed=4)
        assert (again.ids, again.provenance.head) == (mined.ids, trained.name)
        assert [pick.score for pick in again.picks] == pytest.approx([pick.score for pick in mined.picks], abs=1e-6)
        assert list(client.list_labels(pool)) == labels
        assert list(client.list_models(pool)) == models
        assert operations <= {operation.name for operation in client.list_operations()}
        assert client.get_lease(batch.lease) == batch.lease
        assert client.next_batch(pool, "ann", 5, ttl=600, request_id="a batch").ids == batch.ids
        sent = client.add_samples(
            pool,
            project.ids,
            inputs={"features": project.features_NF},
            attributes={"part": ["train" if index % 4 else "hold" for index in range(COUNT)]},
            request_id="first load",
        )
        assert sent.added == COUNT
        assert client.get_pool(pool).counts == before.counts
        submitted = client.annotate(pool, dict.fromkeys(batch.ids, CLASSES[0]), "ann", lease=batch.lease)
        assert (submitted.stored, submitted.lease_remaining) == (5, 0)

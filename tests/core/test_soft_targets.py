"""Heads learn labels as sure as they are, where they are asked to."""

import numpy as np
import pytest

from assay.server.core.labeling.confidence import confidences
from assay.server.core.models.learning import softened
from assay.server.core.models.messages import PredictSpec
from assay.server.core.records.annotations import Policy
from assay.server.core.records.models import ClassTargets, NumberTargets, SetTargets
from tests.core.kit import POOL, House, activate, annotate, fill, labels_of, make_pool, names, pool_of, train


def test_confidences_are_those_that_labels_are_listed_with(house: House) -> None:
    core = house.open()
    make_pool(core, annotations_per_sample=3, policy=Policy.MAJORITY)
    fill(core, 6)
    for worker, answers in {"ann": "abaab", "bob": "abbab", "cy": "abba"}.items():
        said = {"a": "ant", "b": "bee"}
        annotate(core, {f"s{i}": said[each] for i, each in enumerate(answers)}, worker=worker)
    snapshot = pool_of(core).snapshot
    listed = {view.row: view.confidence for view in labels_of(core)}
    rows = np.array(sorted(listed))
    found_N = confidences(core._ports.catalog)(snapshot, rows)
    assert found_N.tolist() == [listed[row] for row in rows.tolist()]
    assert found_N[2] == pytest.approx(2 / 3)


@pytest.mark.parametrize("policy", [Policy.LATEST, Policy.MAJORITY])
def test_a_head_of_soft_targets_is_less_sure_where_people_were(house: House, policy: Policy) -> None:
    core = house.open()
    make_pool(core, annotations_per_sample=3, policy=policy)
    embeddings = fill(core, 60)
    right = {f"s{i}": "ant" if embeddings[i, 0] > 0 else "bee" for i in range(60)}
    wrong = {sample_id: "bee" if said == "ant" else "ant" for sample_id, said in right.items()}
    annotate(core, wrong, worker="cy")
    for worker in ("ann", "bob"):
        annotate(core, right, worker=worker)
    sure = []
    for soft in (False, True):
        model_id = train(core, soft_targets=soft)
        assert core.models.get(POOL, model_id).record.info.soft_targets is soft
        activate(core, model_id)
        probs_NC = core.models.predict(POOL, PredictSpec(ids=tuple(names(0, 60)))).probs_NC
        assert probs_NC is not None
        sure.append(float(probs_NC[np.arange(60), [0 if said == "ant" else 1 for said in right.values()]].mean()))
    assert sure[0] > 0.8
    # Two of three were right; what is linear, and shrunk, is a little less sure than that.
    assert 0.58 < sure[1] < 2 / 3


def test_targets_are_as_sure_as_their_labels() -> None:
    sure_N = np.array([1.0, 0.5, 0.25], np.float32)
    soft, weights_N = softened(ClassTargets(np.array([0, 2, 3]), 5), sure_N)
    assert isinstance(soft, ClassTargets)
    assert weights_N is None
    assert soft.probs_NC is not None
    np.testing.assert_allclose(
        soft.probs_NC, [[1, 0, 0, 0, 0], [0.25, 0, 0.5, 0.25, 0], [0.375, 0, 0.375, 0.25, 0]], atol=1e-12
    )
    assert soft.classes_N.tolist() == [0, 2, 0]
    for targets in (SetTargets(np.eye(3, dtype=np.bool_)), NumberTargets(np.eye(3))):
        same, weights_N = softened(targets, sure_N)
        assert same is targets
        assert weights_N is not None
        assert weights_N.tolist() == [1, 0.5, 0.25]
    hard = ClassTargets(np.array([0, 2, 3]), 5)
    assert softened(hard, np.ones(3, np.float32)) == (hard, None)

"""Three annotators, each sample with two of them, one of whom is often wrong: the report names that one. And what an
audit says of labels."""

import numpy as np
import pytest

from assay.client import Classification, InvalidArgument
from assay.client.testing import ServerProcess

CLASSES = ("ant", "bee", "cow")
WRONG = {"ann": 0.05, "bob": 0.05, "cy": 0.3}
SAMPLES = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ServerProcess(tmp_path_factory.mktemp("judged"))
    server.start()
    yield server
    server.stop()


def test_the_report_names_who_is_often_wrong(server):
    rng = np.random.default_rng(2)
    truth = rng.integers(3, size=SAMPLES)
    with server.client() as client:
        client.create_pool("zoo", task=Classification(list(CLASSES)))
        client.add_samples("zoo", [f"s{i}" for i in range(SAMPLES)], embeddings=np.eye(SAMPLES, dtype=np.float32))
        client.update_pool("zoo", annotations_per_sample=2, policy="majority")
        assert list(client.list_annotators("zoo")) == []
        for place, worker in enumerate(WRONG):
            mine = np.flatnonzero(np.arange(SAMPLES) % 3 != place)
            said = (truth[mine] + (rng.random(len(mine)) < WRONG[worker])) % 3
            client.annotate("zoo", {f"s{i}": CLASSES[c] for i, c in zip(mine, said, strict=True)}, worker)

        def right():
            labels = {label.sample_id: label.value for label in client.list_labels("zoo")}
            return np.mean([labels.get(f"s{i}") == CLASSES[c] for i, c in enumerate(truth)])

        by_majority = right()
        client.update_pool("zoo", policy="weighted")
        result = client.resolve_labels("zoo").result(timeout=60)
        assert (result.samples, result.overtaken) == (SAMPLES, 0)
        assert right() > by_majority + 0.1, "of two who differ, the better one is believed"
        client.create_pool("other", task=Classification(list(CLASSES)))
        with pytest.raises(InvalidArgument, match="follow at once"):
            client.resolve_labels("other")
        reports = {report.annotator: report for report in client.list_annotators("zoo")}
    assert list(reports) == list(WRONG)
    for worker, report in reports.items():
        assert report.skill == pytest.approx(1 - WRONG[worker], abs=0.1)
        assert (report.annotations, report.median_seconds) == (200, None)
        assert sum(pair.count for pair in report.confusion) == report.compared
    assert min(reports.values(), key=lambda report: report.skill).annotator == "cy"


def test_an_audit_lists_labels_that_are_probably_wrong(server):
    rng = np.random.default_rng(4)
    truth = np.arange(90) % 3
    embeddings = (np.eye(3)[truth] + 0.1 * rng.standard_normal((90, 3))).astype(np.float32)
    ids = [f"s{i}" for i in range(90)]
    with server.client() as client:
        client.create_pool("doubted", task=Classification(list(CLASSES)))
        labels = [CLASSES[c] for c in truth]
        labels[7], labels[20] = "cow", "ant"
        client.add_samples("doubted", ids, embeddings=embeddings, labels=labels)
        result = client.audit_pool("doubted").result(timeout=60)
        assert {each.kind: (each.samples, each.found) for each in result.kinds} == {
            "model": (90, 2), "neighbors": (90, 2), "annotators": (0, 0), "duplicates": (90, 0),
        }  # fmt: skip
        (first, *rest) = client.list_suspects("doubted", "model")
        assert {first.sample_id, *(each.sample_id for each in rest)} == {"s7", "s20"}
        assert (first.kind, first.label, first.suggested) in {("model", "cow", "bee"), ("model", "ant", "cow")}
        assert first.score > 0.5
        assert len(list(client.list_suspects("doubted"))) == 4
        assert list(client.list_suspects("zoo")) == []
        with pytest.raises(ValueError, match="choose from"):
            client.audit_pool("doubted", ["gut feeling"])

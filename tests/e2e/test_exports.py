"""What is exported is imported unchanged: labels and their history, of every task, in every format."""

import io
import json

import numpy as np
import pytest

from assay.client import RETRACT, AlreadyExists, Annotation, InvalidArgument
from assay.client.cli import main
from tests.e2e.test_tasks import TASKS, fill, given

# What a server numbers and dates itself.
_OWN = ("event", "create_time", "lease", "supersedes", "undoes")


def said(client, pool, task, kind, values):
    """A pool in which two people said things of two samples, one of them twice."""
    client.create_pool(pool, task=task, annotations_per_sample=2, policy="majority")
    vectors = np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)
    client.add_samples(pool, range(3), embeddings=vectors, payloads=["Ann met Bob in Rome."] * 3)
    one, other = (given(kind, value) for value in values)
    client.annotate(
        pool,
        [
            Annotation("0", one, external_id=f"{pool}/a", comment='so, "so"\nand so', confidence=0.3, duration=0.25),
            Annotation("1", other),
        ],
        "ann",
    )
    client.annotate(pool, [Annotation("0", other, confidence=0.0)], "bob", origin="model")
    client.annotate(pool, {"0": one}, "bob", correct=True)
    client.annotate(pool, {"1": other}, "bob")
    client.annotate(pool, {"1": one}, "bob", correct=True)
    client.undo_last_action(pool, "bob")
    client.skip_samples(pool, ["2"], "bob", "too dark")
    client.annotate(pool, {"2": one}, "ann")
    client.withdraw_annotations(pool, ["2"], "cy", "not hers", annotator="ann")
    client.review_samples(pool, {"0": other}, "cy")
    client.review_samples(pool, {"0": RETRACT}, "cy")
    client.review_samples(pool, {"1": other}, "cy")
    client.skip_samples(pool, ["2"], "dee")
    client.undo_last_action(pool, "dee")


def exported(client, pool, history):
    """An export as records, without what is a server's own."""
    file = io.BytesIO()
    client.export_labels(pool, file, history=history)
    records = [json.loads(line) for line in file.getvalue().splitlines()]
    return [{name: cell for name, cell in record.items() if name not in _OWN} for record in records]


def by_sample(history):
    """Events of a sample keep their order, those of several are sent together; only values have times of their own."""
    events = [each if each["kind"] in ("annotate", "correct") else {**each, "time": None} for each in history]
    return sorted(events, key=lambda record: record["sample_id"])


@pytest.mark.parametrize("kind", TASKS)
def test_what_is_exported_is_imported_unchanged(client, server, kind, tmp_path, capsys):
    pool, (task, values) = f"export-{kind}", TASKS[kind]
    said(client, pool, task, kind, values)
    history, labels = exported(client, pool, True), exported(client, pool, False)
    assert [(each["sample_id"], each["kind"], each["worker"]) for each in history] == [
        ("0", "annotate", "ann"),
        ("1", "annotate", "ann"),
        ("0", "annotate", "bob"),
        ("0", "correct", "bob"),
        ("1", "annotate", "bob"),
        ("1", "correct", "bob"),
        ("1", "correct", "bob"),
        ("2", "skip", "bob"),
        ("2", "annotate", "ann"),
        ("2", "withdraw", "ann"),
        ("0", "verdict", "cy"),
        ("0", "retract", "cy"),
        ("1", "verdict", "cy"),
        ("2", "skip", "dee"),
        ("2", "resume", "dee"),
    ]
    assert (history[7]["comment"], history[9]["by"]) == ("too dark", "cy")
    first = {name: history[0][name] for name in ("comment", "confidence", "duration", "external_id", "origin")}
    assert first == {
        "comment": 'so, "so"\nand so',
        "confidence": 0.3,
        "duration": 0.25,
        "external_id": f"{pool}/a",
        "origin": "worker",
    }
    assert history[2]["confidence"] == 0
    assert [label.value for label in client.list_labels(pool)] == list(values)
    for suffix in ("jsonl", "csv", "parquet"):
        again, path = f"{pool}-{suffix}", tmp_path / f"history.{suffix}"
        client.export_labels(pool, path, suffix, history=True)
        client.create_pool(again, task=task, annotations_per_sample=2, policy="majority")
        client.add_samples(again, range(3), embeddings=np.eye(3, 4), payloads=["Ann met Bob in Rome."] * 3)
        done = client.import_annotations(again, path)
        assert (done.stored, done.unchanged, done.left_out) == (11, 0, 4)
        assert client.import_annotations(again, path) == done
        assert by_sample(exported(client, again, True)) == by_sample(history[:5] + history[7:-2])
        # Decisions of reviewers are of now.
        assert [{**each, "time": 0} for each in exported(client, again, False)] == [
            {**each, "time": 0} for each in labels
        ]
    out, once = tmp_path / "labels.jsonl", f"{pool}-once"
    command = ["--server", server.target]
    assert main([*command, "export", pool, "--out", str(out)]) == 0
    fill(client, once, task)
    assert main([*command, "annotate", once, "--from", str(out)]) == 0
    assert [label.value for label in client.list_labels(once)] == list(values)
    assert [each["time"] for each in exported(client, once, True)] == [each["time"] for each in labels]
    assert main([*command, "export", once, "--history", "--out", str(tmp_path / "again.parquet")]) == 0
    capsys.readouterr()


def test_boxes_leave_as_coco_and_come_back(client, server, pool, tmp_path, capsys):
    ids, (value, nothing) = ["a.jpg", "b.jpg"], TASKS["boxes"][1]
    client.create_pool(pool, task=TASKS["boxes"][0])
    client.add_samples(pool, ids, embeddings=np.eye(2, 4), uris=["file:///a.jpg", None])
    client.annotate(pool, dict(zip(ids, (value, nothing), strict=True)), "ann")
    path = tmp_path / "instances.json"
    with pytest.raises(InvalidArgument, match=r"Sample 'a.jpg' has None as attribute 'width'"):
        client.export_labels(pool, path, "coco")
    with pytest.raises(InvalidArgument, match="COCO has labels only"):
        client.export_labels(pool, path, "coco", history=True)
    client.update_samples(pool, ids, attributes={"width": [640, 100], "height": [480, 50]})
    command = ["--server", server.target]
    assert main([*command, "export", pool, "--out", str(path)]) == 0
    document = json.loads(path.read_text())
    assert [(each["file_name"], each["width"]) for each in document["images"]] == [("a.jpg", 640), ("b.jpg", 100)]
    (annotation,) = document["annotations"]
    assert annotation["bbox"] == [0, 120, 640, 240]
    again = f"{pool}-2"
    client.create_pool(again, task=TASKS["boxes"][0])
    client.add_samples(again, ids, embeddings=np.eye(2, 4))
    assert main([*command, "annotate", again, "--from", str(path), "--worker", "ann"]) == 0
    assert [label.value for label in client.list_labels(again)] == [value, nothing]
    capsys.readouterr()


@pytest.mark.parametrize("kind", TASKS)
def test_labels_go_through_frames_and_tables(client, kind):
    pool, (task, values) = f"frames-{kind}", TASKS[kind]
    fill(client, pool, task, 2)
    client.annotate(
        pool, [Annotation(row, given(kind, each), confidence=0.5) for row, each in enumerate(values)], "ann"
    )
    for table in (client.labels_as_pandas(pool), client.labels_as_arrow(pool, history=True)):
        again = f"{pool}-{type(table).__name__.lower()}"
        fill(client, again, task, 2)
        assert client.import_annotations(again, table).stored == 2
        assert [label.value for label in client.list_labels(again)] == list(values)
    with pytest.raises(AlreadyExists):
        client.import_annotations(again, {"id": [0], "label": [given(kind, values[1])]}, worker="ann")

"""A pool is edited over the wire, and a killed server has it as it was said to be."""

import threading
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest

from assay.client import (
    AssayError,
    Box,
    Boxes,
    Classification,
    FailedPrecondition,
    NotFound,
    ObjectUncertainty,
    Plan,
    PredictedObjects,
    RetryPolicy,
    attr,
    edit_classes,
)
from assay.client.testing import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ServerProcess(tmp_path_factory.mktemp("edited"))
    server.start()
    yield server
    server.stop()


def labels(client):
    return {label.sample_id: label.value for label in client.list_labels("zoo")}


def test_edits_outlive_a_kill(server):
    with server.client() as client:
        client.create_pool("zoo", task=Classification(["ant", "bee", "cow"]))
        client.add_samples("zoo", list("abcd"), embeddings=np.eye(4, dtype=np.float32))
        client.annotate("zoo", {"a": "ant", "b": "bee"}, "ann")
        task = edit_classes(client.get_pool("zoo").task, add=["dog"], rename={"cow": "ox"}, merge={"ant": "dog"})
        client.update_pool("zoo", task=task, metadata={"team": "mammals"})
        assert labels(client) == {"a": "dog", "b": "bee"}
    server.kill()
    server.start()
    with server.client() as client:
        pool = client.get_pool("zoo")
        assert [(each.name, each.merged_into) for each in pool.task.classes] == [
            ("bee", None), ("ox", None), ("dog", None), ("ant", 3)
        ]  # fmt: skip
        assert pool.metadata == {"team": "mammals"}
        assert labels(client) == {"a": "dog", "b": "bee"}
        client.update_pool("zoo", annotations_per_sample=2, policy="majority")
        assert labels(client) == {}
        client.update_pool("zoo", task=edit_classes(pool.task, restore=["ant"]))
        for worker in ("bob", "cy"):
            client.annotate("zoo", {"a": "ant"}, worker)
        with pytest.raises(FailedPrecondition) as refusal:
            client.update_pool("zoo", annotations_per_sample=1, policy="latest")
        assert refusal.value.reason == "ANNOTATIONS_EXIST"
    server.kill()
    server.start()
    with server.client() as client:
        assert labels(client) == {"a": "ant"}


def test_updated_samples_outlive_a_kill(server):
    with server.client() as client:
        client.create_pool("herd", task=Classification(["ant", "bee"]))
        client.add_samples("herd", list("abcd"), embeddings=np.eye(4, dtype=np.float32), attributes={"n": [1, 2, 3, 4]})
        client.annotate("herd", {"a": "ant"}, "ann")
        table = pd.DataFrame({"tag": ["old", None, "new"], "n": [10, 20, 30]})
        assert client.update_samples("herd", ["a", "b", "c"], attributes=table, payloads=["A", None, "C"]).updated == 3
        client.update_samples("herd", ["c", "d"], attributes={"split": ["test", None], "tag": [None, None]})
        with pytest.raises(NotFound) as refusal:
            client.update_samples("herd", ["a", "nobody"], uris=["file:a", "file:b"])
        assert refusal.value.metadata["id"] == "nobody"
        said = pd.DataFrame({"bee": [0.25, 0.5], "ant": [0.75, 0.5]})
        assert client.update_predictions("herd", "mine", ["d", "b"], probabilities=said).updated == 2
        client.update_predictions("herd", "old", ["a"], probabilities=[[1, 0]])
        client.delete_prediction_source("herd", "old")
    version = _pushed_until_killed(server)
    server.start()
    with server.client() as client:
        found = {sample.id: sample for sample in client.list_samples("herd", include_payload=True)}
        assert {each: dict(sample.attributes) for each, sample in found.items()} == {
            "a": {"tag": "old", "n": 10}, "b": {"n": 20}, "c": {"n": 30, "split": "test"}, "d": {"n": 4}
        }  # fmt: skip
        assert [found[each].text for each in "ac"] == ["A", "C"]
        assert (found["a"].label, found["a"].uri, found["b"].payload) == ("ant", "", b"")
        assert [sample.id for sample in client.list_samples("herd", where=attr("n") >= 20)] == ["b", "c"]
        assert [(each.id, each.samples, each.lost) for each in client.list_prediction_sources("herd")] == [
            ("mine", 2, 0)
        ]
        assert {pick.id for pick in client.mine("herd", 2, plan="random").picks} == {"b", "d"}, "c is set apart"
        _check_pushed(server, client, version)


def test_a_detector_of_ones_own_says_what_to_label_and_what_it_is_worth(server):
    ids, classes = [f"i{number}" for number in range(6)], ["ant", "bee"]
    with server.client() as client:
        client.create_pool("images", task=Boxes(classes))
        splits = ["test", "test", None, None, None, None]
        client.add_samples("images", ids, embeddings=np.eye(6, dtype=np.float32), attributes={"split": splits})
        left, right = Box("ant", 0, 0, 0.5, 1, score=0.9), Box("bee", 0.5, 0, 0.5, 1, score=0.6)
        found = [[left], [right], [left], [], [left, right], [left]]
        client.update_predictions("images", "detector-1", ids, objects=PredictedObjects.of(found, classes))
        client.annotate("images", {"i0": [Box("ant", 0, 0, 0.5, 1)], "i1": [Box("ant", 0, 0, 0.5, 1)]}, "ann")
        unsure = Plan(objects=ObjectUncertainty(empty="floor"), prediction_source="detector-1")
        mined = client.mine("images", 4, unsure)
        assert [pick.id for pick in mined.picks][0::3] == ["i4", "i3"], "what is set apart is not picked"
        assert mined.provenance.named_source == "pools/images/predictionSources/detector-1"
        (source,) = client.list_prediction_sources("images", metrics=True)
        assert (source.metrics.split, source.metrics.samples) == ("test", 2)
        assert 0 < source.metrics.value("map_50") < 1
        assert client.next_batch("images", "bob", 1, plan=unsure).picks[0].id == "i4"


def _pushed_until_killed(server):
    """Pushes one version of predictions after the other; the last that was acknowledged before the server was
    killed."""
    version, pushed, ids = 0, threading.Event(), [f"s{number}" for number in range(50)]
    with server.client() as client:
        client.create_pool("pushed", task=Classification(["ant", "bee"]))
        client.add_samples("pushed", ids, embeddings=np.ones((50, 4), np.float32))

    def push():
        nonlocal version
        with server.client(retry=RetryPolicy(outage=0)) as client, suppress(AssayError):
            while True:
                share = (version + 1) / 1000
                probabilities = np.tile([share, 1 - share], (len(ids), 1))
                client.update_predictions("pushed", "mine", ids, probabilities=probabilities)
                version += 1
                if version % 10 == 0:
                    pushed.set()

    pusher = threading.Thread(target=push)
    pusher.start()
    assert pushed.wait(30)
    server.kill()
    pusher.join(30)
    return version


def _check_pushed(server, client, version):
    """What was acknowledged is there, and perhaps the next push, of all samples or of none; no file is left over."""
    picks = client.mine("pushed", 50, Plan.preset("margin", prediction_source="mine"), predictions=2).picks
    said = {round(1000 * {p.class_name: p.probability for p in pick.predictions}["ant"]) for pick in picks}
    assert len(said) == 1
    assert said <= {version, version + 1}
    sources = [source for pool in client.list_pools() for source in client.list_prediction_sources(pool.id)]
    assert len(list((server.data_dir / "pools").glob("*/predictions/*"))) == len(sources)

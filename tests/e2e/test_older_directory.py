"""A data directory that assay 0.1.0 left behind, killed while it ran: all of it is there, and work goes on."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from assay.client.testing import start_server

MADE_BEFORE = Path(__file__).parent / "older" / "made-by-0.1.0.tar.xz"
POOLS = ("news", "features")
# The leases of then are long over: whoever held a sample lets it go.
NOW = {"leased": "unlabeled"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A client of today's server on that directory, and what 0.1.0's own client had been told of each pool."""
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(MADE_BEFORE) as archive:
        archive.extractall(folder, filter="data")
    told = json.loads((folder / "told.json").read_text())
    with start_server(folder) as server, server.client() as client:
        yield client, told


@pytest.mark.parametrize("pool", POOLS)
def test_labels_are_of_who_gave_them_and_when(found, pool):
    client, told = found
    labels = [[of.sample_id, of.value, of.worker, of.update_time.timestamp()] for of in client.list_labels(pool)]
    assert labels == [label[:4] for label in told[pool]["labels"]]


@pytest.mark.parametrize("pool", POOLS)
def test_samples_are_as_they_were(found, pool):
    client, told = found
    samples = [[of.id, of.text, of.uri, dict(of.attributes), of.state] for of in client.list_samples(pool)]
    assert samples == [[*sample[:4], NOW.get(sample[4], sample[4])] for sample in told[pool]["samples"]]


@pytest.mark.parametrize("pool", POOLS)
def test_heads_predict_what_they_predicted(found, pool):
    client, told = found
    ids = [sample[0] for sample in told[pool]["samples"][:5]]
    np.testing.assert_allclose(client.predict(pool, samples=ids).probs_NC, told[pool]["probs"], rtol=1e-5)


def test_operations_are_found_by_the_names_they_had(found):
    client, told = found
    kept = {operation.name.rpartition("/")[2] for operation in client.list_operations()}
    assert kept == {name.rpartition("/")[2] for name in told["operations"]}


def test_work_goes_on(found):
    """What was labeled before is known: samples are leased and mined, heads trained under the same rules."""
    client, told = found
    assert [pool.id for pool in client.list_pools()] == ["empty", "features", "news"]
    excluded = [sample[0] for sample in told["news"]["samples"] if sample[4] == "excluded"]
    everything = [sample[0] for sample in told["news"]["samples"] if NOW.get(sample[4], sample[4]) == "unlabeled"]
    batch = client.next_batch("news", "eve", len(everything))
    assert sorted(batch.ids) == everything
    assert not set(excluded) & set(batch.ids)
    assert client.annotate("news", dict.fromkeys(batch.ids, "sport"), "eve", lease=batch.lease).stored == len(batch.ids)
    assert client.train_head("news").result(timeout=60).head
    assert client.add_samples("features", ["new"], inputs={"features": np.ones((1, 5), np.float32)}).added == 1
    assert len(client.mine("features", 3, "margin").ids) == 3

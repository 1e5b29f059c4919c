"""What people really hand to the client, against a real server: nothing is lost, and errors name the sample."""

import numpy as np
import pandas as pd
import pytest

from assay.client import Classification, InvalidArgument, Plan, SampleBatch, Stochastic, errors, scorer
from tests.models.onnx_factory import linear_embedder

WIDE = 8


def vectors(number):
    """Distinct vectors."""
    return np.random.default_rng(number).normal(size=(number, WIDE)).astype(np.float32)


@pytest.mark.parametrize(
    "labels",
    [[0, 0, 1, None], np.zeros(4, np.int64), pd.Series([0, None, 1, 0], dtype="Int64"), pd.Categorical(list("0101"))],
    ids=["ints", "numpy", "nullable", "category"],
)
def test_labels_as_numbers_arrive(client, pool, labels):
    client.create_pool(pool, task=Classification([0, 1]))
    added = client.add_samples(pool, range(4), embeddings=vectors(4), labels=labels)
    assert added.added == 4
    wanted = {str(row): str(label) for row, label in enumerate(labels) if not pd.isna(label)}
    assert {label.sample_id: label.value for label in client.list_labels(pool)} == wanted
    left = [row for row in range(4) if str(row) not in wanted]
    if left:
        client.annotate(pool, {left[0]: 0}, "ann")
        assert client.get_sample(pool, left[0]).label == "0"


def test_a_frame_with_holes_arrives_as_it_is(client, pool):
    frame = pd.DataFrame({"id": ["a", "b"], "lang": ["en", None], "n": [0.5, np.nan], "flag": [False, True]})
    client.create_pool(pool)
    client.add_samples(
        pool,
        frame["id"],
        embeddings=pd.DataFrame(vectors(2)),
        attributes=frame[["lang", "n", "flag"]],
        payloads=pd.Series(["text", None]),
        uris=pd.Series([None, "s3://b"]),
    )
    first, second = client.list_samples(pool, include_payload=True)
    assert (first.attributes, first.text, first.uri) == ({"lang": "en", "n": 0.5, "flag": False}, "text", "")
    assert (second.attributes, second.payload, second.uri) == ({"flag": True}, b"", "s3://b")


ROWS, BAD = 40, 33


def spoiled(**columns):
    """40 samples of which the 34th is wrong."""
    ids = [f"w{row}" for row in range(ROWS)]
    return {"ids": ids, "embeddings": vectors(ROWS), **columns}


def broken(values, value):
    """A column with one bad entry."""
    values = values.copy() if isinstance(values, np.ndarray) else list(values)
    values[BAD] = value
    return values


def holed():
    """Vectors with one NaN."""
    matrix = vectors(ROWS)
    matrix[BAD, 7] = np.nan
    return matrix


WRONG = {
    "not finite": (spoiled(embeddings=holed()), "NOT_FINITE"),
    "zero": (spoiled(embeddings=broken(vectors(ROWS), 0.0)), "INVALID_MATRIX"),
    "beyond float32": (spoiled(embeddings=broken(vectors(ROWS).astype(np.float64), 1e300)), "NOT_FINITE"),
    "label": (spoiled(labels=broken(["a"] * ROWS, "dog")), "UNKNOWN_CLASS"),
    "payload": (spoiled(payloads=broken(["x"] * ROWS, "y" * 70_000)), "TOO_LARGE"),
    "uri": (spoiled(uris=broken(["x"] * ROWS, "y" * 3000)), "TOO_LARGE"),
    "attribute": (spoiled(attributes={"t": broken(["x"] * ROWS, "y" * 5000)}), "TOO_LARGE"),
    "predictions": (spoiled(predictions=broken(np.full((ROWS, 2), 0.5), 0.9)), "PROBABILITIES_INVALID"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_name_the_row_of_the_upload_and_the_id(client, pool, case):
    columns, reason = WRONG[case]
    client.create_pool(pool, task=Classification(["a", "b"]))
    with pytest.raises(InvalidArgument) as caught:
        client.add_samples(pool, **columns, batch_size=10)
    error = caught.value
    assert (error.reason, error.row, error.metadata["id"], error.stored) == (reason, BAD, f"w{BAD}", 30)
    assert f"Row {BAD} (id 'w{BAD}')" in error.message


def test_errors_of_model_inputs_name_the_row_of_the_upload(client, pool, tmp_path):
    client.create_pool(pool)
    model = client.upload_backbone(pool, linear_embedder(tmp_path / "m.onnx", features=WIDE, dimension=3))
    client.activate_model(model).result(60)
    ids = [f"w{row}" for row in range(ROWS)]
    with pytest.raises(InvalidArgument) as caught:
        client.add_samples(pool, ids, inputs={"features": holed()}, batch_size=10)
    error = caught.value
    assert (error.reason, error.row, error.metadata["id"], error.stored) == ("NOT_FINITE", BAD, f"w{BAD}", 30)


def test_errors_of_a_stream_of_batches_count_over_all_of_them(client, pool):
    client.create_pool(pool)
    parts = [SampleBatch([f"{part}-{row}" for row in range(7)], vectors(7)) for part in range(3)]
    parts.append(SampleBatch(["x", "0-3"], vectors(2)))
    with pytest.raises(errors.AlreadyExists) as caught:
        client.add_batches(pool, parts)
    assert (caught.value.row, caught.value.metadata["id"], caught.value.stored) == (22, "0-3", 21)


def test_what_is_wrong_with_a_whole_batch_of_a_stream_names_its_first_sample(client, pool):
    client.create_pool(pool)
    first = SampleBatch(["a", "b"], vectors(2), attributes={"n": [1, 2]})
    for wrong, reason in (
        (SampleBatch(["c", "d"], vectors(2)[:, :1]), "DIMENSION_MISMATCH"),
        (SampleBatch(["c", "d"], vectors(2), attributes={"n": ["x", "y"]}), "ATTRIBUTE_TYPE_MISMATCH"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            client.add_batches(pool, [first, wrong], on_conflict="skip")
        error = caught.value
        assert (error.reason, error.row, error.metadata["id"], error.stored) == (reason, 2, "c", 2)


def test_what_replacing_drops_is_told(client, pool):
    client.create_pool(pool, task=Classification(["a"]))
    ids = ["x", "y"]
    client.add_samples(pool, ids, embeddings=vectors(2), labels=["a", None], attributes={"n": [1, 2]})
    replaced = client.add_samples(pool, ids, embeddings=vectors(2), on_conflict="replace", batch_size=1)
    assert (replaced.replaced, replaced.labels_dropped, replaced.attributes_dropped) == (2, 1, 2)


def test_what_is_0_is_not_taken_for_the_default(client, pool):
    client.create_pool(pool, task=Classification(["a", "b"]))
    client.add_samples(pool, ["x", "y"], embeddings=vectors(2), predictions=[[0.5, 0.5], [0.1, 0.9]])
    refused = [
        lambda: client.mine(pool, 1, Plan(scores=[scorer("margin", strength=0)])),
        lambda: client.mine(pool, 1, Plan(scores=[scorer("margin")], stochastic=Stochastic("power", beta=0))),
        lambda: client.search(pool, samples=["x"], k=0),
        lambda: client.train_head(pool, members=0),
        lambda: client.train_head(pool, folds=0),
        lambda: client.next_batch(pool, "ann", 1, ttl=0),
        lambda: client.mine(pool, 0),
    ]
    for call in refused:
        with pytest.raises(InvalidArgument):
            call()
    assert client.mine(pool, 1, Plan(scores=[scorer("margin", strength=np.float32(2))])).plan.scores[0].strength == 2


def test_numbers_of_numpy_are_parameters(client, pool):
    client.create_pool(pool)
    client.add_samples(pool, [str(row) for row in range(30)], embeddings=vectors(30))
    plan = Plan.from_dict({"select": {"strategy": "typiclust", "params": {"neighbors": 5}}})
    assert plan.select is not None
    numpy_plan = Plan(select=type(plan.select)("typiclust", {"neighbors": np.int64(5)}))
    assert client.mine(pool, np.int64(3), numpy_plan, seed=np.int64(1)).ids == client.mine(pool, 3, plan, seed=1).ids


def test_measures_that_there_are_none_of_are_none(client, pool):
    client.create_pool(pool, task=Classification(["a", "b"]))
    client.add_samples(pool, ["x", "y"], embeddings=vectors(2), labels=["a", "b"])
    metrics = client.train_head(pool).result(60).head.metrics
    assert (metrics.value("accuracy"), metrics.measures, metrics.samples, metrics.split) == (None, {}, 0, None)

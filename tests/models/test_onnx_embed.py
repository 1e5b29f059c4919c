"""Backbones at work: inputs checked, batches cut, outputs pooled."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper

from assay.server.adapters.onnx_backbone.batching import BatchLimits, by_length
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import BackboneSpec, Pooling
from tests.models import onnx_factory as factory
from tests.models.backbones import serve
from tests.models.onnx_factory import FLOAT


def features(count: int, width: int = 4) -> npt.NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((count, width)).astype(np.float32)


def documents(count: int, longest: int) -> dict[str, npt.NDArray[np.int64]]:
    """Right-padded token ids; the padding holds ids as well, which must not matter."""
    rng = np.random.default_rng(5)
    lengths_N = rng.integers(1, longest + 1, count)
    mask_NT = (np.arange(longest) < lengths_N[:, None]).astype(np.int64)
    return {"input_ids": rng.integers(0, 50, (count, longest)), "attention_mask": mask_NT}


def pooled_by_hand(path: str, inputs: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float64]:
    """The token model and its masked mean, one sample at a time."""
    table = factory.weights_of(path)["table"].astype(np.float64)
    rows = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        own = table[ids[mask == 1]]
        rows.append((own + own.mean(axis=0)).mean(axis=0))
    return np.array(rows)


def test_linear_equals_numpy_over_many_batches(tmp_path: Path) -> None:
    path = factory.linear_embedder(tmp_path / "m.onnx", classes=2)
    backbone = serve(path, BackboneSpec(logits_output="logits"), limits=BatchLimits(samples=7))
    x = features(40)
    weights = factory.weights_of(path)
    embeddings_ND, logits_NC = backbone.embed({"features": x})
    assert embeddings_ND.dtype == np.float32
    assert embeddings_ND.flags.c_contiguous
    np.testing.assert_allclose(embeddings_ND, x @ weights["W"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits_NC, x @ weights["W"] @ weights["V"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("limits", [BatchLimits(), BatchLimits(samples=3, tokens=30)])
@pytest.mark.parametrize("uses_mask", [True, False])
def test_masked_mean_equals_numpy(tmp_path: Path, limits: BatchLimits, uses_mask: bool) -> None:
    """A graph that looks at padding keeps it; one that does not loses it. Either way the result is the graph's."""
    path = factory.token_embedder(tmp_path / "m.onnx", uses_mask=uses_mask)
    inputs = documents(60, 17)
    embeddings_ND, _ = serve(path, limits=limits).embed(inputs)
    if uses_mask:
        np.testing.assert_allclose(embeddings_ND, pooled_by_hand(path, inputs), rtol=1e-5, atol=1e-5)
        return
    own = factory.weights_of(path)["table"][inputs["input_ids"]]
    mask_NT1 = inputs["attention_mask"][:, :, None]
    expected = ((own + own.mean(axis=1, keepdims=True)) * mask_NT1).sum(axis=1) / mask_NT1.sum(axis=1)
    np.testing.assert_allclose(embeddings_ND, expected, rtol=1e-5, atol=1e-5)


def test_left_padding_is_respected(tmp_path: Path) -> None:
    path = factory.token_embedder(tmp_path / "m.onnx")
    inputs = {name: np.ascontiguousarray(array[:, ::-1]) for name, array in documents(20, 9).items()}
    embeddings_ND, _ = serve(path).embed(inputs)
    np.testing.assert_allclose(embeddings_ND, pooled_by_hand(path, inputs), rtol=1e-5, atol=1e-5)


def test_fixed_length_is_not_trimmed(tmp_path: Path) -> None:
    path = factory.token_embedder(tmp_path / "m.onnx", length=(9,))
    inputs = documents(20, 9)
    embeddings_ND, _ = serve(path).embed(inputs)
    np.testing.assert_allclose(embeddings_ND, pooled_by_hand(path, inputs), rtol=1e-5, atol=1e-5)


def test_first_token(tmp_path: Path) -> None:
    path = factory.token_embedder(tmp_path / "m.onnx")
    inputs = documents(10, 5)
    first_ND, _ = serve(path, BackboneSpec(pooling=Pooling.CLS)).embed(inputs)
    table = factory.weights_of(path)["table"]
    for vector, ids, mask in zip(first_ND, inputs["input_ids"], inputs["attention_mask"], strict=True):
        np.testing.assert_allclose(vector, table[ids[0]] + table[ids[mask == 1]].mean(axis=0), rtol=1e-5, atol=1e-5)


def test_spatial_mean_equals_numpy(tmp_path: Path) -> None:
    path = factory.image_embedder(tmp_path / "m.onnx")
    pixels = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    embeddings_ND, _ = serve(path).embed({"pixels": pixels})
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(2, 3))
    convolved = np.einsum("nchwij,dcij->ndhw", windows, factory.weights_of(path)["kernel"])
    np.testing.assert_allclose(embeddings_ND, convolved.mean(axis=(2, 3)), rtol=1e-4, atol=1e-5)


def test_mean_without_a_mask(tmp_path: Path) -> None:
    backbone = serve(factory.one_node(tmp_path / "m.onnx", "Abs", ["batch", "tokens", 3]))
    x = np.random.default_rng(0).standard_normal((4, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(backbone.embed({"x": x})[0], np.abs(x).mean(axis=1), rtol=1e-6)


def test_normalized_rows_have_length_one_and_zero_stays(tmp_path: Path) -> None:
    backbone = serve(factory.linear_embedder(tmp_path / "m.onnx"), BackboneSpec(normalize=True))
    x = np.concatenate([features(5), features(5) * 1e25, np.zeros((1, 4), np.float32)])
    norm_N = np.linalg.norm(backbone.embed({"features": x})[0], axis=1)
    np.testing.assert_allclose(norm_N, [1.0] * 10 + [0.0], rtol=1e-5)


def test_batch_of_one_fixed(tmp_path: Path) -> None:
    path = factory.linear_embedder(tmp_path / "m.onnx", batch=1)
    backbone = serve(path)
    assert backbone.info.inputs[0].shape == (-1, 4)
    x = features(5)
    assert backbone.check_inputs({"features": x}) == 5
    np.testing.assert_allclose(backbone.embed({"features": x})[0], x @ factory.weights_of(path)["W"], rtol=1e-5)


def test_embedding_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    """Quantised by the range of the batch, a small sample beside a large one would lose its digits."""
    backbone = serve(factory.quantized_embedder(tmp_path / "m.onnx"))
    x = features(6) * np.array([[1], [1000], [1], [1], [1], [1]], np.float32)
    together_ND, _ = backbone.embed({"features": x})
    alone_ND = np.concatenate([backbone.embed({"features": x[i : i + 1]})[0] for i in range(6)])
    assert np.array_equal(together_ND, alone_ND)


def test_batches_by_length_hold_all_and_keep_limits() -> None:
    lengths_N = np.random.default_rng(0).integers(1, 60, 500)
    limits = BatchLimits(samples=16, tokens=128)
    batches = list(by_length(lengths_N, limits))
    assert sorted(np.concatenate([samples for samples, _ in batches])) == list(range(500))
    for samples, length in batches:
        assert length == lengths_N[samples].max()
        assert len(samples) <= 16
        assert len(samples) == 1 or len(samples) * length <= 128


def test_many_threads_get_what_one_gets(tmp_path: Path) -> None:
    path = factory.token_embedder(tmp_path / "m.onnx")
    backbone = serve(path, threads=2)
    batches = [{name: array[i::8] for name, array in documents(160, 12).items()} for i in range(8)]
    alone = [backbone.embed(batch)[0] for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: backbone.embed(batch)[0], batches * 4))
    for i, embeddings_ND in enumerate(together):
        np.testing.assert_allclose(embeddings_ND, alone[i % 8], rtol=1e-6)


def test_inputs_of_other_widths_are_taken(tmp_path: Path) -> None:
    linear = serve(factory.linear_embedder(tmp_path / "m.onnx"))
    x = features(3)
    for dtype in (np.float16, np.float64):
        assert linear.check_inputs({"features": x.astype(dtype)}) == 3
        np.testing.assert_allclose(
            linear.embed({"features": x.astype(dtype)})[0], linear.embed({"features": x})[0], atol=1e-2
        )
    tokens = serve(factory.token_embedder(tmp_path / "t.onnx"))
    inputs = documents(4, 5)
    narrow = {name: array.astype(np.int32) for name, array in inputs.items()}
    assert tokens.check_inputs(narrow) == 4
    assert np.array_equal(tokens.embed(narrow)[0], tokens.embed(inputs)[0])


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"input_ids": None}, Reason.INPUTS_INVALID, "'input_ids' is missing"),
        ({"extra": np.ones((3, 5))}, Reason.INPUTS_INVALID, "no input 'extra'"),
        ({"input_ids": np.ones((3, 5))}, Reason.INPUTS_INVALID, "float64"),
        ({"input_ids": np.ones((3, 5, 1), np.int64)}, Reason.INPUTS_INVALID, "shape"),
        ({"input_ids": np.ones((3, 0), np.int64)}, Reason.INPUTS_INVALID, "shape"),
        ({"input_ids": np.ones((0, 5), np.int64)}, Reason.INPUTS_INVALID, "shape"),
        ({"input_ids": np.int64(1)}, Reason.INPUTS_INVALID, "shape"),
        ({"input_ids": np.ones((4, 5), np.int64)}, Reason.INPUTS_INVALID, "different numbers"),
        ({"input_ids": np.ones((3, 6), np.int64)}, Reason.INPUTS_INVALID, "'tokens' is 6"),
        ({"attention_mask": np.full((3, 5), 2)}, Reason.INPUTS_INVALID, "other than 0"),
        ({"attention_mask": np.diag([1, 0, 1]) @ np.ones((3, 5), np.int64)}, Reason.INPUTS_INVALID, "Row 1: its mask"),
    ],
)
def test_wrong_token_inputs(
    tmp_path: Path, change: dict[str, npt.NDArray[np.int64] | None], reason: Reason, words: str
) -> None:
    backbone = serve(factory.token_embedder(tmp_path / "m.onnx"))
    good = {"input_ids": np.ones((3, 5), np.int64), "attention_mask": np.ones((3, 5), np.int64)}
    assert backbone.check_inputs(good) == 3
    bad = {name: array for name, array in {**good, **change}.items() if array is not None}
    with pytest.raises(AssayError, match=words) as caught:
        backbone.check_inputs(bad)
    assert caught.value.reason is reason


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    """1e300 is finite until it becomes the graph's float32."""
    backbone = serve(factory.linear_embedder(tmp_path / "m.onnx"))
    x = features(4).astype(np.float64)
    x[2, 1] = value
    with pytest.raises(AssayError) as caught:
        backbone.check_inputs({"features": x})
    assert caught.value.reason is Reason.NOT_FINITE
    assert caught.value.metadata["row"] == "2"


def test_fixed_size_is_checked(tmp_path: Path) -> None:
    backbone = serve(factory.linear_embedder(tmp_path / "m.onnx"))
    with pytest.raises(AssayError, match=r"takes \[any, 4\]"):
        backbone.check_inputs({"features": features(3, width=5)})


def test_token_beyond_the_vocabulary(tmp_path: Path) -> None:
    backbone = serve(factory.token_embedder(tmp_path / "m.onnx", vocabulary=50))
    inputs = documents(3, 4)
    inputs["input_ids"][1, 0] = 50
    with pytest.raises(AssayError, match="indices element out of data bounds, idx=50") as caught:
        backbone.embed(inputs)
    assert caught.value.reason is Reason.INPUTS_INVALID


def test_output_that_is_not_finite_names_its_samples(tmp_path: Path) -> None:
    backbone = serve(factory.one_node(tmp_path / "m.onnx", "Log", ["batch", 3]))
    x = np.ones((600, 3), np.float32)
    x[[5, 7, 300]] = -1
    with pytest.raises(AssayError) as caught:
        backbone.embed({"x": x})
    assert caught.value.reason is Reason.NOT_FINITE
    assert caught.value.metadata["row"] == "5"
    assert "1 more of its batch" in caught.value.message


def test_dimension_that_changes_with_the_input(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2], keepdims=0)]
    path = factory.save(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["batch", "any", 2])], [("y", FLOAT, None)])
    backbone = serve(path)
    with pytest.raises(AssayError, match="shape") as caught:
        backbone.embed({"x": np.ones((2, 11, 2), np.float32)})
    assert caught.value.reason is Reason.INFERENCE_FAILED


def test_padding_of_a_whole_batch_never_reaches_the_graph(tmp_path: Path) -> None:
    """An id beyond the vocabulary would fail if it did."""
    path = factory.token_embedder(tmp_path / "m.onnx", vocabulary=50)
    backbone = serve(path)
    inputs = documents(8, 6)
    padded = {
        "input_ids": np.pad(inputs["input_ids"], ((0, 0), (0, 20)), constant_values=10_000),
        "attention_mask": np.pad(inputs["attention_mask"], ((0, 0), (0, 20))),
    }
    np.testing.assert_allclose(backbone.embed(padded)[0], backbone.embed(inputs)[0], rtol=1e-6)

"""Tokenizing for the backbone."""

from pathlib import Path

import numpy as np
import pytest

from demo.tokens import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "space", "##ship", "launch"]
PAD, UNK, CLS, SEP, _, SPACE, SHIP, LAUNCH = range(len(PIECES))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(PIECES))
    return Tokenizer(vocabulary, 6)


def test_inputs_of_the_backbone(tokenizer: Tokenizer) -> None:
    inputs = tokenizer(["Launch spaceship", "", "launch " * 20, "xyz"])
    assert list(inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    for tensor in inputs.values():
        assert tensor.dtype == np.int64
        assert tensor.shape == (4, 6)
    assert inputs["input_ids"].tolist() == [
        [CLS, LAUNCH, SPACE, SHIP, SEP, PAD],
        [CLS, SEP, PAD, PAD, PAD, PAD],
        [CLS, LAUNCH, LAUNCH, LAUNCH, LAUNCH, SEP],
        [CLS, UNK, SEP, PAD, PAD, PAD],
    ]
    assert inputs["attention_mask"].sum(axis=1).tolist() == [5, 2, 6, 3]
    assert not inputs["token_type_ids"].any()

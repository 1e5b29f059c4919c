"""From text to what the backbone reads: word pieces, as three integer matrices of one length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

# Name of a model input, and of the encoding's field that fills it.
_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class Tokenizer:
    """BERT word pieces, lower case, cut or padded to `length` tokens with [CLS] and [SEP] among them."""

    def __init__(self, vocabulary: Path, length: int) -> None:
        self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length)

    def __call__(self, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Named inputs of the backbone, int64 [texts, length]; the mask is 0 on padding."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return {
            name: np.array([getattr(encoding, field) for encoding in encodings], dtype=np.int64)
            for name, field in _FIELDS.items()
        }

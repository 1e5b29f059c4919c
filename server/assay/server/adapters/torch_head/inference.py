"""Heads applied: one matrix product."""

import torch

from assay.server.adapters.torch_head.tensors import as_tensor
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import HeadWeights
from assay.server.core.records.tasks import TaskKind
from assay.strategies import checkpoint

# Logits of the classes with labels have mean 0, so their largest is at least 0: this is a probability below e^-30.
UNSEEN_LOGIT = -30.0

_BLOCK_BYTES = 4 << 20  # of embeddings that all members use while they are in the cache


def predict(weights: HeadWeights, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
    """Writes what the first member says into out, at the speed of the bare product; nothing is copied.

    Logits of classes, the probability of each class of a set, or numbers. Columns of out beyond those of the head are
    classes that are newer than it: they are unseen.
    """
    if len(embeddings_ND) == 0:
        return
    _apply(weights, 0, as_tensor(embeddings_ND), torch.from_numpy(out_NC))


def predict_members(weights: HeadWeights, embeddings_ND: FloatArray, columns: int) -> FloatArray:
    """What every member says [K, N, columns]: class probabilities, the probability of each class of a set, or
    numbers."""
    embeddings = as_tensor(embeddings_ND)
    out_KNC = torch.empty(len(weights.bias_KC), len(embeddings), columns)
    block = max(1, _BLOCK_BYTES // (4 * embeddings.shape[1]))
    for start in range(0, len(embeddings), block):
        checkpoint()
        rows = slice(start, start + block)
        for member, out_NC in enumerate(out_KNC):
            _apply(weights, member, embeddings[rows], out_NC[rows])
            if weights.kind is TaskKind.CLASSIFICATION:
                out_NC[rows] = torch.softmax(out_NC[rows], dim=1)
    result: FloatArray = out_KNC.numpy()
    return result


def _apply(weights: HeadWeights, member: int, embeddings_ND: torch.Tensor, out_NC: torch.Tensor) -> None:
    known = weights.bias_KC.shape[1]
    torch.addmm(
        as_tensor(weights.bias_KC)[member],
        embeddings_ND,
        as_tensor(weights.weights_KDC)[member],
        out=out_NC[:, :known],
    )
    out_NC[:, known:] = UNSEEN_LOGIT
    if weights.kind is TaskKind.MULTILABEL:
        out_NC.sigmoid_()

"""Heads applied: one matrix product."""

import torch

from assay.server.adapters.torch_head.tensors import as_tensor
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import HeadWeights
from assay.strategies import checkpoint

_BLOCK_BYTES = 4 << 20  # of embeddings that all members use while they are in the cache


def logits(weights: HeadWeights, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
    """Writes the first member's logits into out, at the speed of the bare product; nothing is copied."""
    torch.addmm(
        as_tensor(weights.bias_KC)[0],
        as_tensor(embeddings_ND),
        as_tensor(weights.weights_KDC)[0],
        out=torch.from_numpy(out_NC),
    )


def member_probs(weights: HeadWeights, embeddings_ND: FloatArray) -> FloatArray:
    """Class probabilities [K, N, C] of every member."""
    weights_KDC, bias_KC = as_tensor(weights.weights_KDC), as_tensor(weights.bias_KC)
    embeddings = as_tensor(embeddings_ND)
    probs_KNC = torch.empty(len(bias_KC), len(embeddings), bias_KC.shape[1])
    block = max(1, _BLOCK_BYTES // (4 * embeddings.shape[1]))
    for start in range(0, len(embeddings), block):
        checkpoint()
        rows = slice(start, start + block)
        for member_DC, member_C, probs_NC in zip(weights_KDC, bias_KC, probs_KNC, strict=True):
            probs_NC[rows] = torch.softmax(torch.addmm(member_C, embeddings[rows], member_DC), dim=1)
    result: FloatArray = probs_KNC.numpy()
    return result

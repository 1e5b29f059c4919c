"""Heads in torch: multinomial logistic regression on embeddings, its calibration, its storage and its use."""

from assay.server.adapters.torch_head.heads import TorchHeads

__all__ = ["TorchHeads"]

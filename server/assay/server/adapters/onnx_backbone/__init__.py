"""Backbones in ONNX Runtime: from a file that nobody trusts to embeddings."""

from assay.server.adapters.onnx_backbone.loader import OnnxBackboneLoader

__all__ = ["OnnxBackboneLoader"]

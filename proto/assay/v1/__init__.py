"""The wire protocol of assay, version 1: code generated from the .proto files beside it."""

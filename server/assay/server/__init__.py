"""The service: pools, models, mining and labeling over gRPC."""

"""gRPC: servicers, conversion, interceptors. The only place of the server that knows the wire."""

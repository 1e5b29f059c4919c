"""A bare gRPC server that receives one stream of byte messages and drops them: the wire's own speed in Python."""

import asyncio
import sys

import grpc

METHOD = "/bench.Sink/Send"


async def receive(messages: object, context: object) -> bytes:
    """Counts what came."""
    total = 0
    async for message in messages:  # type: ignore[attr-defined]
        total += len(message)
    return str(total).encode()


async def main() -> None:
    """Serves until its standard input is closed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    handler = grpc.stream_unary_rpc_method_handler(receive)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Sink", {"Send": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())

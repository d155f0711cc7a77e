"""The HTTP gateway: parse, one dialect-neutral operation, render."""

import services as services  # chooses gRPC's engine, before anything imports grpc

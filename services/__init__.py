"""The services; they never import each other."""

from services.common import grpc_engine

# Here, because grpc looks only once: when it is first imported.
grpc_engine.choose()

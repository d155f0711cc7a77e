"""What gRPC is told of a service's methods: who answers, and how the messages are parsed and serialized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

# By whether requests come as a stream, and whether answers go as one.
_MAKERS: Mapping[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def generic_handler(
    service: ServiceDescriptor,
    servicer: object,
    *,
    decoders: Mapping[str, Callable[[bytes], Any]] | None = None,
    encoders: Mapping[str, Callable[[Any], bytes] | None] | None = None,
) -> grpc.GenericRpcHandler:
    """A service whose methods are those of `servicer` with their names.

    As the generated function would have it, but for the methods whose requests `decoders` parse and whose answers
    `encoders` serialize, by hand; None: the method brings bytes.
    """
    handlers: dict[str, Any] = {}
    for method in service.methods:
        request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        handlers[method.name] = _MAKERS[method.client_streaming, method.server_streaming](
            getattr(servicer, method.name),
            (decoders or {}).get(method.name, request.FromString),
            (encoders or {}).get(method.name, answer.SerializeToString),
        )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def behaviour_of(handler: Any) -> Callable[[Any, Any], Any]:
    """The function that answers a method: a handler has one of these four."""
    found: Callable[[Any, Any], Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return found


def with_behaviour(handler: Any, behaviour: Callable[[Any, Any], Any], deserializer: Any, serializer: Any) -> Any:
    """The same method with somebody else who answers it, and with other functions that parse and serialize.

    A single request is taken from the context, too: on the wire it is a stream of one.
    """
    make = _MAKERS[True, handler.response_streaming]
    return make(behaviour, deserializer, serializer)

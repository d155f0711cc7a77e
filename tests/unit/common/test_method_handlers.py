from __future__ import annotations

import grpc
import pytest
from reelway.v1 import stream_pb2

from services.common.method_handlers import generic_handler

SERVICE = stream_pb2.DESCRIPTOR.services_by_name["StreamService"]


def test_a_servicer_that_lacks_a_method_of_its_proto_is_none() -> None:
    present = {method.name: print for method in SERVICE.methods}
    assert isinstance(generic_handler(SERVICE, type("Whole", (), present)()), grpc.GenericRpcHandler)
    del present["PresignRead"]
    with pytest.raises(AttributeError, match="PresignRead"):
        generic_handler(SERVICE, type("Partial", (), present)())

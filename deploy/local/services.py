"""The processes of the system, besides its servers. A new one needs a line in SERVICES and nothing else."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a process is told where to listen, and how it says that it is ready."""

    GRPC = "GRPC_LISTEN; grpc.health.v1"
    GATEWAY = "HOST and PORT; GET /ready"


@dataclass(frozen=True)
class Service:
    """One kind of process, of which there may be several replicas."""

    name: str
    module: str
    """What `python -m` runs."""
    kind: Kind = Kind.GRPC
    target: str = ""
    """The variable that tells its peers where it is."""
    isolates: bool = False
    """It is not ready where a layer of isolation is missing that ISOLATION asks for."""


SERVICES: tuple[Service, ...] = (
    Service("catalog", "services.catalog", target="CATALOG_TARGET"),
    Service("upload", "services.upload", target="UPLOAD_TARGET"),
    Service("stream", "services.stream", target="STREAM_TARGET"),
    Service("ffmpeg", "services.ffmpeg", target="FFMPEG_TARGET", isolates=True),
    Service("worker", "services.ffmpeg.worker", isolates=True),
    Service("gateway", "gateway", kind=Kind.GATEWAY),
)

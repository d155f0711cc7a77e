"""The processes of the system, besides its servers. Here a new one needs a line in SERVICES and nothing else."""

from dataclasses import dataclass
from enum import Enum

from gateway.settings import GatewaySettings
from services.catalog.settings import CatalogSettings
from services.common.settings import Settings
from services.ffmpeg.settings import FrontSettings, WorkerSettings
from services.stream.settings import StreamSettings
from services.upload.settings import UploadSettings


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
    settings: type[Settings] = Settings
    """What it reads from the environment."""
    isolates: bool = False
    """It is not ready where a layer of isolation is missing that ISOLATION asks for."""


SERVICES: tuple[Service, ...] = (
    Service("catalog", "services.catalog", target="CATALOG_TARGET", settings=CatalogSettings),
    Service("upload", "services.upload", target="UPLOAD_TARGET", settings=UploadSettings),
    Service("stream", "services.stream", target="STREAM_TARGET", settings=StreamSettings),
    Service("ffmpeg", "services.ffmpeg", target="FFMPEG_TARGET", settings=FrontSettings, isolates=True),
    Service("worker", "services.ffmpeg.worker", settings=WorkerSettings, isolates=True),
    Service("gateway", "gateway", kind=Kind.GATEWAY, settings=GatewaySettings),
)

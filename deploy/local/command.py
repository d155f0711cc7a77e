"""`make run`: the whole system on this machine, until Ctrl-C."""

import asyncio
import sys
from collections.abc import Sequence

from botocore.exceptions import BotoCoreError

from deploy.local.disk import Disk
from deploy.local.output import Output
from deploy.local.ports import choose_from
from deploy.local.process import StartError, inherited, reach_this_machine_directly
from deploy.local.services import SERVICES, Service
from deploy.local.settings import LocalSettings
from deploy.local.supervisor import Supervisor, sole_user
from deploy.local.system import System, work_folder
from services.common.settings import load

BANNER = """ready: {url}  (API: {url}/docs; Ctrl-C stops everything; data is kept in {data_dir})
try:
  curl -F video=@clip.mp4 {url}/videos
  curl {url}/videos/ID/stream -r 0-1023 -o first.bin -D -
  curl {url}/videos/ID/download -OJ
metrics, at /metrics of each: {metrics}"""


async def _run(settings: LocalSettings, services: Sequence[Service]) -> None:
    numbered = len("-1") if settings.gateways > 1 else 0
    output = Output(max(len(service.name) for service in services) + numbered, settings.log_dir)
    if settings.log_dir:
        try:
            settings.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(f"LOG_DIR {settings.log_dir}: {error.strerror}") from error
    with sole_user(settings.data_dir):
        system = System(settings, inherited(), output.of, services, replicas={"gateway": settings.gateways})

        def ready() -> None:
            metrics = ", ".join(f"{name} {address}" for name, address in system.metrics.items())
            banner = BANNER.format(url=system.base_url, data_dir=settings.data_dir, metrics=metrics)
            for line in banner.splitlines():
                output.say(line)

        output.say("starting")
        await Supervisor(system, Disk(settings.data_dir), output.say).run(ready)
        output.say("stopped")


def _load(services: Sequence[Service]) -> LocalSettings:
    """Our settings, once every process's own are known to be usable: what is not is one line, and nothing starts."""
    settings = load(LocalSettings)
    # What each is given, whatever is set.
    given = {"S3_BUCKET": settings.s3_bucket, "grpc_listen": "127.0.0.1:0", "metrics_listen": ""}
    if folder := work_folder(settings, inherited()):
        given["work_dir"] = folder
    for service in services:
        load(service.settings, **given)
    return settings


def main(services: Sequence[Service] = SERVICES) -> int:
    """0 after Ctrl-C; 2 and one line where something can't be started."""
    settings = _load(services)
    reach_this_machine_directly()
    choose_from(settings.free_ports)
    try:
        asyncio.run(_run(settings, services))
    # The latter of AWS's own settings, which its library reads whatever S3 it is that we start or are given.
    except (StartError, BotoCoreError) as error:
        print(f"reelway: {error}", file=sys.stderr)
        return 2
    return 0

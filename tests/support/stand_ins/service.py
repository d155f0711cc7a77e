"""A gRPC process with health and nothing else; STAND_IN=fail makes it end at once."""

import os
import sys

from services.common import server
from services.common.settings import ServiceSettings, load


async def _ready() -> None:
    return


def main() -> None:
    if os.environ.get("STAND_IN") == "fail":
        sys.exit("settings: STAND_IN: cannot be 'fail'")
    settings = load(ServiceSettings)
    server.run(
        "stand-in", settings, lambda: server.serve("stand-in", settings, lambda _: None, service_names=[], ready=_ready)
    )


if __name__ == "__main__":
    main()

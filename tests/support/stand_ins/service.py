"""A gRPC process with health and nothing else; STAND_IN=fail makes it end at once."""

import os
import sys

from services.common import process, server
from services.common.settings import ServiceSettings


def main() -> None:
    if os.environ.get("STAND_IN") == "fail":
        sys.exit("settings: STAND_IN: cannot be 'fail'")
    process.run(
        "stand-in",
        ServiceSettings,
        lambda settings: server.serve(settings, lambda _: None, service_names=[], ready={}),
    )


if __name__ == "__main__":
    main()

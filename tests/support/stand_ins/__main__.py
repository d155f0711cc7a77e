"""`python -m deploy.local` with stand-ins for its processes."""

import sys

from deploy.local import command
from deploy.local.services import Kind, Service

STAND_INS = (
    Service("stream", "tests.support.stand_ins.service", target="STREAM_TARGET"),
    Service("gateway", "tests.support.stand_ins.gateway", kind=Kind.GATEWAY),
)


def main() -> None:
    sys.exit(command.main(STAND_INS))


if __name__ == "__main__":
    main()

"""Free TCP ports on loopback."""

import errno
import random
import socket
from pathlib import Path

from deploy.local.process import StartError

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_handed_out: set[int] = set()
_lane = range(20_000, 32_768)


def choose_from(lane: range) -> None:
    """Let `free_port` take its ports from there, from now on."""
    global _lane  # noqa: PLW0603 - a process has one lane, as it has one set of ports that it handed out
    _lane = lane


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on and that this process has not handed out yet.

    It is taken from below the range that the kernel gives to outgoing connections, where the lane reaches below:
    between this answer and the bind of the process that gets it, no client's socket can be in the way.

    Raises:
        StartError: they are all in use.
    """
    lane = range(_lane.start, min(_lane.stop, _first_ephemeral())) or _lane
    for port in random.sample(lane, k=min(len(lane), 1000)):
        if port not in _handed_out and is_free("127.0.0.1", port):
            _handed_out.add(port)
            return port
    raise StartError(f"FREE_PORTS: all of {lane.start}-{lane.stop - 1} on 127.0.0.1 are in use")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there.

    Raises:
        OSError: the address is no address of this machine, or the port is not ours to use.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family) as probe:
        # As servers do: an old connection in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def claim(host: str, port: int) -> socket.socket | None:
    """A mark that we are about to listen there, until it is closed or this process ends; None if somebody else has it.

    For servers that share their port (SO_REUSEPORT): of two systems that start at a time both would find it free, and
    the kernel would spread connections over both.
    """
    mark = socket.socket(socket.AF_UNIX)
    try:
        # In Linux' abstract namespace, where a name goes with its owner (unix(7)).
        mark.bind(f"\0reelway:{host}:{port}")
    except OSError as error:
        mark.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return mark


def _first_ephemeral() -> int:
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):
        return 32_768

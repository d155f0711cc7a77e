"""Tries, from inside the cage, what must not work, and prints the findings as one line of JSON.

Run like the launcher, with the same SPEC and besides: `canary` (a file outside), `outside` (a folder outside). It goes
into the cage as the launcher does, and stays there instead of becoming ffmpeg.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

_spec = importlib.util.spec_from_file_location("launcher", Path(__file__).with_name("sandbox_launcher.py"))
if _spec is None or _spec.loader is None:
    raise SystemExit("the launcher is missing")
_launcher = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_launcher)


def denied(action: Callable[[], object]) -> bool:
    """Whether `action` is refused by the kernel."""
    try:
        action()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def main() -> None:
    """Look around, and tell."""
    spec = _launcher.read_spec()
    folder, parent = spec["folder"], spec["parent"]
    try:
        _launcher.enter(spec)
    except Exception as error:
        _launcher.fail(error)
    findings = {
        "read_outside_denied": denied(lambda: os.open(spec["canary"], os.O_RDONLY)),
        "list_outside_denied": denied(lambda: list(Path(spec["outside"]).iterdir())),
        "write_outside_denied": denied(lambda: os.open(f"{spec['outside']}/x", os.O_WRONLY | os.O_CREAT)),
        "inputs_read_only": denied(lambda: os.open(f"{folder}/in/x", os.O_WRONLY | os.O_CREAT)),
        "link_denied": denied(lambda: Path(f"{folder}/out/link").symlink_to("/etc/passwd")),
        "environ_denied": denied(lambda: os.open(f"/proc/{parent}/environ", os.O_RDONLY)),
        "tcp_denied": denied(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
        "udp_denied": denied(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        "unix_denied": denied(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)),
        "signal_denied": denied(lambda: os.kill(parent, 0)),
        "signal_by_descriptor_denied": denied(lambda: fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, parent)),
        "affinity_denied": denied(lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent))),
        "fork_denied": denied(_fork),
        "exec_denied": False,
    }
    os.write(1, json.dumps(findings).encode() + b"\n")
    # Where this works there is nobody left to tell, and the line above stands.
    findings["exec_denied"] = denied(lambda: os.execv("/bin/sh", ["/bin/sh", "-c", "exit 0"]))  # noqa: S606
    os.write(1, json.dumps(findings).encode() + b"\n")


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


main()

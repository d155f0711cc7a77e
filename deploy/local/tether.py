"""Runs a command that can't outlive its parent: `tether.py PARENT_PID COMMAND...`.

A script of its own and not a `preexec_fn`: that would run Python between fork and exec in a process that may
have threads, where it can deadlock. The tie survives the exec (prctl(2), PR_SET_PDEATHSIG), not a fork: a
command that starts processes of its own must tether them, too.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie_to(parent: int) -> None:
    """This process is killed (SIGKILL) when `parent`, which started it, ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have gone before the call above: nobody would tell us any more.
    if os.getppid() != parent:
        sys.exit(1)


def main(parent: int, command: list[str]) -> None:
    """Ties this process to `parent` and becomes `command`."""
    tie_to(parent)
    try:
        os.execvp(command[0], command)  # noqa: S606 - there is no shell, and none is wanted
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

"""Runs a command that can't outlive its parent: `tether.py PARENT_PID SIGNAL COMMAND...`.

A script of its own and not a `preexec_fn`: that would run Python between fork and exec in a process that may
have threads, where it can deadlock. The signal survives the exec (prctl(2), PR_SET_PDEATHSIG), not a fork: a
command that starts processes of its own must tether them, too.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def tie_to(parent: int, signal: int) -> None:
    """This process gets `signal` when `parent`, which started it, ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)
    # The parent may have gone before the call above: nobody would tell us any more.
    if os.getppid() != parent:
        sys.exit(1)


def main(parent: int, signal: int, command: list[str]) -> None:
    """Ties this process to `parent` and becomes `command`."""
    tie_to(parent, signal)
    try:
        os.execvp(command[0], command)  # noqa: S606 - there is no shell, and none is wanted
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

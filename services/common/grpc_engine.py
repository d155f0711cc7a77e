"""Which of gRPC's two engines moves the bytes: the older one, which reads and writes in the thread that waits.

The newer one, gRPC's default, hands each event from thread to thread. Where bytes are what a process does all day
that costs a fifth of the CPU of a range of a MiB, and a third of that of the hop alone. The names are those of
grpcio as it is locked; a test looks whether they still work.
"""

from __future__ import annotations

import functools
import os

VARIABLE = "GRPC_EXPERIMENTS"
_OLDER_ENGINE = "-event_engine_client,-event_engine_listener,-event_engine_callback_cq"


def choose() -> None:
    """Called before grpc is imported, which is when it looks; what the environment says already is left alone."""
    os.environ.setdefault(VARIABLE, _OLDER_ENGINE)


@functools.cache
def keep() -> object:
    """Have gRPC last as long as the process. Called as that starts, not on import: its threads do not outlive a fork.

    By itself it ends with its last channel or server, and leaves running the thread in which the older engine looks
    after a write that waited for its socket. Up to ten seconds later that takes a lock that is gone: SIGSEGV (1.85.1).
    """
    import grpc  # noqa: PLC0415 - it would look before the choice is made

    return grpc.local_server_credentials()

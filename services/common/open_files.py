"""Lets this process have as many sockets as its system allows it.

The soft limit is 1024 nearly everywhere, for programs that select(2), which none of ours do: on a laptop, and in
containers since containerd's unit leaves it to systemd. The gateway has a socket for each viewer: past a thousand
every new connection is reset, a probe's among them.
"""

from __future__ import annotations

import resource

MOST = 65_536
"""Memory ends first by far. A hard limit can be a billion, and some programs close every descriptor up to the soft one,
which children inherit; so does the sandbox."""


def raise_limit() -> None:
    """Raise the soft limit to the hard one, or to `MOST`; it is never lowered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""How many sockets a process may have, whatever it is started with."""

import json
import resource
import subprocess
import sys
from textwrap import dedent

import pytest

from services.common import open_files
from services.common.open_files import MOST

PROCESS = dedent("""
    import json, resource, sys
    from services.common import process
    from services.common.settings import Settings

    async def main(settings):
        print(json.dumps(resource.getrlimit(resource.RLIMIT_NOFILE)))

    process.run("process", Settings, main)
""")


def limits_of_a_process(soft: int, hard: int) -> tuple[int, int]:
    """Those of a process that is started with these."""
    script = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec {sys.executable} -c '{PROCESS}'"
    told = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    soft_after, hard_after = json.loads(told)
    return soft_after, hard_after


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (256, 2048, 2048),  # as a laptop or containerd 2 has it, in small
        (2048, 2048, 2048),
    ],
)
def test_a_process_takes_what_it_may_have(soft: int, hard: int, expected: int) -> None:
    assert limits_of_a_process(soft, hard) == (expected, hard)


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 2**30, MOST),
        (1024, resource.RLIM_INFINITY, MOST),
        (2**20, 2**20, 2**20),  # never lowered
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
        (1024, 4096, 4096),
    ],
)
def test_it_takes_no_more_than_it_can_use(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, expected: int) -> None:
    kept = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: kept[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: kept.append(limits))
    open_files.raise_limit()
    assert kept[-1] == (expected, hard)

"""Where one of our processes spends its time while a row runs: py-spy, attached from outside."""

import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load import PeerError

RATE_HZ = 400
STOP_SECONDS = 20.0


@contextmanager
def recording(pid: int, output: Path, *, native: bool) -> Iterator[None]:
    """Sample a process; writes a speedscope file, or a flamegraph where `output` ends in .svg.

    With `native`, the frames of C extensions too (slower: the process is paused longer for each sample).

    Raises:
        PeerError: py-spy is missing or may not attach.
    """
    program = shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    if program is None:
        raise PeerError("py-spy is missing; run `make bench`, which installs it")
    form = "flamegraph" if output.suffix == ".svg" else "speedscope"
    # Threads that wait are left out; a pause for each sample keeps stacks whole.
    command = [program, "record", "--pid", str(pid), "--output", str(output), "--format", form]
    command += ["--rate", str(RATE_HZ), "--duration", "3600", *(["--native"] if native else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as spy:
        try:
            yield
        finally:
            spy.send_signal(signal.SIGINT)
            try:
                said, _ = spy.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                spy.kill()
                raise
    if not output.exists():
        raise PeerError(f"py-spy wrote nothing: {said.strip().splitlines()[-1] if said.strip() else 'no message'}")

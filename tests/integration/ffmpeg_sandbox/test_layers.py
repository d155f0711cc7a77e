"""What keeps ffmpeg in: every layer is tried, a missing one is told, and nothing of the worker is inside."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.ffmpeg import sandbox as sandbox_module
from services.ffmpeg.command_policy import plan
from services.ffmpeg.command_run import run_plan
from services.ffmpeg.isolation import Mode, examine, require_ready
from services.ffmpeg.job import JobFailure, JobFault
from services.ffmpeg.process import Ended, run_sandboxed
from services.ffmpeg.sandbox import LAUNCHER, Layers
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from tests.integration.ffmpeg_sandbox.rig import LIMITS, SANDBOX
from tests.support.programs import installed, static
from tests.support.terminal import ROOT


async def test_nothing_is_to_be_read_on_standard_input(folder: WorkFolder) -> None:
    lines: list[bytes] = []
    argv = ["/usr/bin/stat", "--format=%F %t:%T", "-"]
    result = await run_sandboxed(SANDBOX, argv, folder, LIMITS, on_line=lines.append)
    assert (result.ended, lines) == (Ended.SUCCEEDED, [b"character special file 1:3"])


async def test_what_runs_has_no_capabilities_whoever_started_it(folder: WorkFolder) -> None:
    """Those of root pass over the permissions of files. Without Landlock, which keeps /proc from being read."""
    lines: list[bytes] = []
    readable = replace(SANDBOX, layers=replace(SANDBOX.layers, landlock_abi=0))
    result = await run_sandboxed(
        readable, ["/bin/grep", "Cap", "/proc/self/status"], folder, LIMITS, on_line=lines.append
    )
    assert result.ended is Ended.SUCCEEDED
    held = {name.decode(): int(mask, 16) for name, mask in (line.split(b":") for line in lines)}
    assert (held["CapPrm"], held["CapEff"], held["CapInh"], held["CapAmb"]) == (0, 0, 0, 0)


async def test_what_runs_can_neither_raise_its_limits_nor_run_what_it_reads_or_wrote(
    folder: WorkFolder, tmp_path: Path
) -> None:
    """It is in a session of its own, too, and what it writes is for its user alone."""
    (tmp_path / "look.py").write_text(_LOOK)
    for place in ("in", "out"):
        shutil.copy("/bin/true", folder.path / place / "program")
    sandbox, lines = replace(SANDBOX, scripts=tmp_path), list[bytes]()
    extra = {"launcher": str(SANDBOX.scripts / LAUNCHER)}
    argv = [SANDBOX.ffmpeg]
    result = await run_sandboxed(sandbox, argv, folder, LIMITS, on_line=lines.append, script="look.py", extra=extra)
    assert result.ended is Ended.SUCCEEDED, result.stderr
    assert json.loads(lines[0]) == {
        "leads_its_session": True,
        "folder": str(folder.path),
        "mode": 0o700,
        "limits": [[most, most] for most in (LIMITS.address_space_bytes, LIMITS.output_bytes, 256, 0)],
    }
    assert lines[1:] == [b"in/program is not run", b"out/program is not run"]


_LOOK = """
import importlib.util, json, marshal, os, resource
with open(0, "rb", closefd=False) as file:
    told = marshal.load(file)
spec = importlib.util.spec_from_file_location("launcher", told["launcher"])
launcher = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launcher)
launcher.enter(told)
print(json.dumps({
    "leads_its_session": os.getsid(0) == os.getpid(),
    "folder": os.getcwd(),
    "mode": os.fstat(os.open("out/written", os.O_WRONLY | os.O_CREAT)).st_mode & 0o777,
    "limits": [resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("AS", "FSIZE", "NOFILE", "CORE")],
}), flush=True)
for program in ("in/program", "out/program"):
    try:
        os.execv(program, [program])
    except PermissionError:
        print(program, "is not run", flush=True)
"""


@pytest.mark.parametrize("binary", [installed(), static()], ids=["installed", "static"])
async def test_strict_mode_is_ready_where_every_layer_holds(root: WorkRoot, binary: str) -> None:
    isolation = await examine(replace(SANDBOX, ffmpeg=binary), Mode.STRICT, root, LIMITS)
    assert isolation.missing == ()
    assert isolation.level == "kernel"
    require_ready(isolation)
    health = isolation.health()
    assert health["ok"]
    assert health["layers"]["landlock"]["abi"] == SANDBOX.layers.landlock_abi
    assert health["ffmpeg"]["version"]
    assert re.fullmatch(r"landlock\d\+seccomp\+rlimits", isolation.sandbox.layers.label)
    assert ("ladspa" in health["ffmpeg"]["dangerous_filters_compiled_in"]) == (binary == installed())


# What each layer alone withholds. Landlock does with signals, too, from ABI 6 on.
FILES = {"read_outside", "list_outside", "write_outside", "link", "exec"}
CALLS = {"tcp", "udp", "unix", "signal_by_descriptor", "fork"}


@pytest.mark.parametrize(
    ("layers", "missing", "withheld"),
    [
        (Layers(0, seccomp=True), "landlock", CALLS | {"signal"}),
        (Layers(7, seccomp=False), "seccomp", FILES | ({"signal"} if SANDBOX.layers.landlock_abi >= 6 else set())),
        (Layers(0, seccomp=False), "landlock", set()),
    ],
)
async def test_a_missing_layer_is_told_and_strict_mode_refuses(
    root: WorkRoot, layers: Layers, missing: str, withheld: set[str]
) -> None:
    isolation = await examine(replace(SANDBOX, layers=layers), Mode.STRICT, root, LIMITS)
    assert missing in isolation.missing
    assert not isolation.selftest.ok
    held = {name.removesuffix("_denied") for name, held in isolation.selftest.checks.items() if held}
    assert held & (FILES | CALLS | {"signal"}) == withheld
    assert isolation.selftest.checks["inputs_read_only"] == ("exec" in withheld)
    with pytest.raises(ReelwayError) as refused:
        require_ready(isolation)
    assert refused.value.reason is ErrorReason.ISOLATION_UNAVAILABLE
    assert missing in refused.value.message
    best_effort = replace(isolation, mode=Mode.BEST_EFFORT)
    assert best_effort.ready
    assert best_effort.loopback_only == (layers == Layers(0, seccomp=False))


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6])
async def test_older_kernels_confine_files_too(root: WorkRoot, abi: int) -> None:
    isolation = await examine(replace(SANDBOX, max_abi=abi), Mode.STRICT, root, LIMITS)
    assert isolation.missing == ()


async def test_a_launcher_that_cannot_is_never_gone_round(folder: WorkFolder) -> None:
    impossible = replace(SANDBOX, max_abi=0)
    argv = [SANDBOX.ffmpeg, "-version"]
    result = await run_sandboxed(impossible, argv, folder, LIMITS)
    assert (result.ended, result.exit_code) == (Ended.SANDBOX, 125)
    assert b"SANDBOX-FAILED" in result.stderr
    made = plan("-f lavfi -i testsrc=d=1 out_1", {}, {"out_1": "o.mp4"}, LIMITS)
    with pytest.raises(JobFault) as failed:
        await run_plan(impossible, made, folder, lambda _: None)
    assert failed.value.failure == JobFailure("INTERNAL", "The command could not be isolated")
    assert list((folder.path / "out").iterdir()) == []


async def test_descriptors_and_environment_stay_outside(
    folder: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ffmpeg.process._require_whitelists", lambda argv: None)
    (tmp_path / "secret").write_text("CANARY")
    with (tmp_path / "secret").open("rb") as file:
        os.set_inheritable(file.fileno(), True)
        argv = [SANDBOX.ffmpeg, "-nostdin", "-f", "data", "-i", f"pipe:{file.fileno()}", "-map", "0", "-c", "copy"]
        result = await run_sandboxed(SANDBOX, [*argv, "-f", "data", f"{folder.path}/out/0"], folder, LIMITS)
    written = b"".join(path.read_bytes() for path in (folder.path / "out").iterdir())
    assert b"CANARY" not in written + result.stderr


def _open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in [path, *path.parents])


def test_it_holds_for_a_user_without_any_privilege() -> None:
    """As `nobody`, with no capability: what a pod's non-root user has."""
    python = Path(os.path.realpath(sys.executable))
    if not _open_to_all(python):
        python = Path("/usr/bin/python3")
    place = Path("/var/tmp") / f"reelway-test-{os.getpid()}"
    place.mkdir()
    try:
        for script in Path(sandbox_module.__file__).parent.glob("sandbox_*.py"):
            shutil.copy(script, place)
        (place / "work").mkdir()
        if os.getuid() == 0:
            # All of it: what a umask leaves to others may be nothing.
            for part in [place, *place.iterdir()]:
                os.chown(part, 65534, 65534)
        done = subprocess.run(
            [sys.executable, "-c", _UNPRIVILEGED, str(python), str(place)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            check=False,
        )
    finally:
        shutil.rmtree(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kernel () Ended.SUCCEEDED 0000000000000000" in done.stdout


_UNPRIVILEGED = """
import asyncio, concurrent.futures.thread, os, re, sys
from dataclasses import replace
from pathlib import Path
from services.ffmpeg.filter_table import table
from services.ffmpeg.isolation import Mode, examine
from services.ffmpeg.work_folder import WorkRoot
from tests.integration.ffmpeg_sandbox import rig
table()  # what is read from the project's own folder, which nobody else may read here
python, place = sys.argv[1], Path(sys.argv[2])
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
async def main():
    root = WorkRoot(place / "work")
    rig.SANDBOX = replace(rig.SANDBOX, python=python, scripts=place)
    isolation = await examine(rig.SANDBOX, Mode.STRICT, root, rig.LIMITS)
    result = await rig.run(root.create("job"), "-f lavfi -i testsrc=d=1 out_1", rig.LIMITS)
    capabilities = re.search(r"CapEff:\\s+(\\w+)", Path("/proc/self/status").read_text())[1]
    print(isolation.level, isolation.missing, result.ended, capabilities)
    root.close()
asyncio.run(main())
"""

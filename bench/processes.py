"""What the processes of a peer cost, read from /proc."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command's name (proc(5)); empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


class ProcessSet:
    """Some named processes and all their descendants.

    Args:
        roots: Process ids by name; some that are replicas of each other share one.
    """

    def __init__(self, roots: Mapping[str, Sequence[int]]) -> None:
        self.roots = dict(roots)

    def pids(self, name: str | None = None) -> list[int]:
        """Every process of the set, or of one root, that lives now."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat_fields(int(entry.name))):
                parents[int(entry.name)] = int(fields[1])
        names = self.roots if name is None else (name,)
        found = {pid for each in names for pid in self.roots[each] if pid in parents}
        while grown := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= grown
        return sorted(found)

    def cpu_by_process(self) -> dict[str, float]:
        """User and system seconds spent so far by each root, with its descendants, also the ended ones."""
        ticks = dict.fromkeys(self.roots, 0)
        for name in self.roots:
            for pid in self.pids(name):
                if fields := _stat_fields(pid):
                    ticks[name] += sum(int(value) for value in fields[11:15])
        return {name: value / TICKS_PER_SECOND for name, value in ticks.items()}

    def rss_by_process(self) -> dict[str, int]:
        """Resident memory now of each root with its descendants, in bytes."""
        return {name: self._status_bytes("VmRSS:", name) for name in self.roots}

    def peak_rss_bytes(self) -> int:
        """The most resident memory each process had since `reset_peak`, summed."""
        return self._status_bytes("VmHWM:")

    def reset_peak(self) -> None:
        """Let peaks count from now (proc(5), clear_refs)."""
        for pid in self.pids():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _status_bytes(self, field: str, name: str | None = None) -> int:
        total = 0
        for pid in self.pids(name):
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith(field):
                        total += int(line.split()[1]) * 1024
        return total


def python_modules(root: int) -> dict[str, list[int]]:
    """The descendants of a process that are `python -m MODULE`, by the last word of the module's name."""
    found: dict[str, list[int]] = {}
    for pid in ProcessSet({"root": [root]}).pids():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if pid != root and "-m" in words:
                found.setdefault(words[words.index("-m") + 1].rpartition(".")[2], []).append(pid)
    return found

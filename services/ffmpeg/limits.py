"""What one job may use. The plan checks what can be seen in the command; the sandbox enforces the rest."""

from __future__ import annotations

from dataclasses import dataclass

_GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """Bounds of one job; every number is enforced by the named layer."""

    wall_seconds: float = 3600.0
    """Real time until the process is killed (watchdog)."""
    cpu_seconds: int = 7200
    """CPU time of all threads together (RLIMIT_CPU)."""
    memory_bytes: int = 3 * _GIB
    """Resident memory (watchdog)."""
    address_space_bytes: int = 8 * _GIB
    """Virtual memory; 4K x265 with 16 threads was measured at 4.5 GB (RLIMIT_AS)."""
    output_bytes: int = 5 * _GIB
    """Each file (RLIMIT_FSIZE), and all files the job writes together (watchdog)."""
    output_files: int = 64
    """Files the job may leave in its folder (watchdog)."""
    input_bytes: int = 5 * _GIB
    """All inputs of a command together (inputs.py), or all clips of a join (join_handler.py)."""
    threads: int = 4
    """Threads of each codec and filter graph; a command may ask for fewer (plan)."""
    max_pixels: int = 2**26
    """Width times height of any picture that is decoded or encoded; 8K is 2^25 (plan, -max_pixels)."""
    max_side: int = 16384
    """Width or height that a command may write as a number (plan)."""
    max_inputs: int = 32
    """`-i` in one command, and files that it reads in whatever way (plan)."""
    max_outputs: int = 16
    """Output files of one command (plan)."""
    max_filters: int = 200
    """Filters in all graphs of one command (plan)."""
    max_command_chars: int = 16384
    """Characters of the command (plan)."""
    max_task_bytes: int = 32768
    """Bytes of the command, addresses and names together, as JSON of ASCII: what the task's record takes (plan)."""


@dataclass(frozen=True)
class JoinLimits(Limits):
    """Bounds of one join; what it has besides is enforced by join_handler.py."""

    media_seconds: float = 24 * 3600.0
    """What clips that are encoded to one video may say that they last together: a few bytes can ask for years of
    silence and black."""
    input_clips: int = 500
    """Clips of one join."""

"""The subjects of the benchmark, in the order in which they run."""

from bench.registry import Row, Target
from bench.subjects import appends, ffmpeg, listings, memory, reads, seeks, uploads

SUBJECTS = {
    "uploads": uploads,
    "appends": appends,
    "reads": reads,
    "seeks": seeks,
    "memory": memory,
    "listings": listings,
    "ffmpeg": ffmpeg,
}

ROWS: tuple[Row, ...] = tuple(row for subject in SUBJECTS.values() for row in subject.ROWS)
TARGETS: tuple[Target, ...] = tuple(target for subject in SUBJECTS.values() for target in subject.TARGETS)


def select(only: str) -> tuple[Row, ...]:
    """The rows whose id is, or is below, one of the comma-separated words; all of them where `only` is empty.

    Raises:
        ValueError: A word selects nothing.
    """
    words = [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(_below(row.id, word) for row in ROWS):
            raise ValueError(f"{word}: no such row; there are {', '.join(row.id for row in ROWS)}")
    return tuple(row for row in ROWS if not words or any(_below(row.id, word) for word in words))


def _below(row: str, word: str) -> bool:
    return f"{row}.".startswith(f"{word}.")

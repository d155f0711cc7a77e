"""`python -m bench`: compare Reelway with S3, nginx, FastAPI and tus on this machine. `make bench` calls it."""

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path

from bench import machine, report
from bench.lab import PEERS, Lab, run_row
from bench.load import PeerError
from bench.profiler import recording
from bench.registry import OURS, Row
from bench.source import make_source
from bench.subjects import ROWS, TARGETS, select
from deploy.local.process import StartError

SOURCE_BYTES = 256 * 2**20
PROFILE_TRIALS = 6
RESULTS = Path(__file__).parent / "results.md"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help="rows or subjects, such as seeks or reads.bulk,uploads")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions of each row (5)")
    parser.add_argument("--peers", default=",".join(PEERS), help="whom to measure (%(default)s)")
    parser.add_argument("--profile", default="", help="record gateway, stream or upload while the rows run")
    parser.add_argument("--native", action="store_true", help="profile: also the frames of C extensions")
    parser.add_argument("--svg", action="store_true", help="profile: a flamegraph instead of a speedscope file")
    parser.add_argument("--data", type=Path, default=Path(".data/bench"), help="folder to work in (%(default)s)")
    return parser.parse_args()


def note(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


async def compare(options: argparse.Namespace, lab: Lab, rows: tuple[Row, ...]) -> None:
    """Measure the rows and report them."""
    facts, began = machine.facts(), time.monotonic()
    results = {row.id: await run_row(lab, row, options.repeat, note) for row in rows}
    titles = {name: peer.title for name, peer in lab.peers.items()}
    found = report.verdicts(rows, TARGETS, results)
    size, seconds = SOURCE_BYTES // 2**20, time.monotonic() - began
    run_facts = f"an object of {size} MiB, {options.repeat} repetitions, {seconds:.0f} s"
    text = report.document(rows, results, found, titles, [*facts, run_facts])
    print(text)
    (options.data / "last.md").write_text(text)
    # A part of the rows is for tuning; it must not replace a whole report.
    if rows == ROWS and set(lab.peers) == set(PEERS):
        RESULTS.write_text(text)
        note(f"written: bench/{RESULTS.name}")


async def profile(options: argparse.Namespace, lab: Lab, rows: tuple[Row, ...]) -> None:
    """Record one of our processes for each row."""
    for row in rows:
        rounds = [lab.videos_for(row) for _ in range(PROFILE_TRIALS)]
        peer = lab.peers[OURS]
        if options.profile not in peer.processes.roots:
            raise PeerError(f"there is no process {options.profile}")
        output = options.data / f"{options.profile}-{row.id}.{'svg' if options.svg else 'json'}"
        with recording(peer.processes.roots[options.profile][0], output, native=options.native):
            for repetition, videos in enumerate(rounds):
                await lab.observe(row, peer, videos, repetition + 1)
        note(f"written: {output}" + ("" if options.svg else "; open it at speedscope.app or with `npx speedscope`"))


async def run(options: argparse.Namespace) -> None:
    """One run, from nothing to the report."""
    rows = select(options.only)
    names = [OURS] if options.profile else options.peers.split(",")
    if unknown := set(names) - set(PEERS):
        raise PeerError(f"no such peer: {', '.join(sorted(unknown))}")
    folder = options.data / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lab = Lab(folder.absolute(), make_source((folder / "source.mp4").absolute(), SOURCE_BYTES), names)
    try:
        await lab.start()
        await (profile if options.profile else compare)(options, lab, rows)
    finally:
        await lab.stop()
    shutil.rmtree(folder)


def main() -> int:
    """Run; 0 also where a target is missed, 1 where a peer failed (its logs stay), 2 for a wrong option."""
    try:
        asyncio.run(run(arguments()))
    except ValueError as error:
        note(f"bench: {error}")
        return 2
    except (PeerError, StartError) as error:
        note(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The place where rows are run: the storage, the started peers, the videos, and how one trial is observed."""

import random
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.load import Load, PeerError
from bench.peers import Peer
from bench.peers.fastapi import FastApi
from bench.peers.nginx import Nginx
from bench.peers.reelway import Reelway
from bench.peers.s3 import S3Directly
from bench.registry import OURS, Outcome, Row, Trial
from bench.source import Source
from bench.storage import Storage, StoredVideo

VERIFIED_RANGES = ((0, 2), (1, 65536), (2**20 - 1, 2), (3 * 2**20 + 17, 2**20), (8 * 2**20 - 5, 5 * 2**20 + 11))

PeerFactory = Callable[[Storage, Path], Peer]
PEERS: dict[str, PeerFactory] = {"s3": S3Directly, "nginx": Nginx, "fastapi": FastApi, OURS: Reelway}


@dataclass(frozen=True)
class Observation:
    """One trial as seen from outside.

    Attributes:
        load: What the client saw; None for a row with values of its own.
        values: Those values, by the heading of their column.
        cpu_seconds: Spent by the peer's processes; None where it has none.
        by_process: The same, for each named process; where the row has values of its own, the first of those.
        peak_rss_bytes: The peaks of the peer's processes in this trial, summed; 0 where it has none.
    """

    load: Load | None
    values: dict[str, float]
    cpu_seconds: float | None
    by_process: dict[str, float]
    peak_rss_bytes: int


class Lab:
    """Everything one run needs.

    Args:
        folder: Where all of it lives; the caller removes it.
        source: The file that is uploaded and read.
        peers: Names from `PEERS`.
    """

    def __init__(self, folder: Path, source: Source, peers: Sequence[str]) -> None:
        self._source = source
        self.storage = Storage(folder)
        self.peers = {name: PEERS[name](self.storage, folder / name) for name in peers}
        self._shared: StoredVideo | None = None

    async def start(self) -> None:
        """Start the storage and the peers, and check that each gives back the right bytes.

        Raises:
            StartError: Something doesn't start.
            PeerError: A peer gives other bytes.
        """
        await self.storage.start()
        for peer in self.peers.values():
            await peer.start()
        self._shared = self.fresh_video()
        for peer in self.peers.values():
            self.verify(peer, self._shared)

    async def stop(self) -> None:
        """Stop all."""
        for peer in self.peers.values():
            await peer.stop()
        await self.storage.stop()

    def fresh_video(self) -> StoredVideo:
        """A video in S3's page cache that no peer has read, known to Reelway where that takes part."""
        writer = self.peers.get(OURS) or S3Directly(self.storage)
        _, video = writer.upload(self._source.path)
        if self.storage.read(video, hashing=True).digests != [self._source.sha256]:
            raise PeerError(f"{writer.name} stored other bytes than were sent")
        return video

    def videos_for(self, row: Row) -> list[StoredVideo]:
        """The videos of one repetition of a row."""
        if row.fresh_videos == 0:
            assert self._shared is not None
            return [self._shared]
        return [self.fresh_video() for _ in range(row.fresh_videos)]

    def discard(self, videos: Sequence[StoredVideo]) -> None:
        """Remove videos of a finished repetition from S3, so that a long run needs little disk."""
        for video in videos:
            if video != self._shared:
                self.storage.delete(video)

    def verify(self, peer: Peer, video: StoredVideo) -> None:
        """Compare the whole and some odd ranges, as the peer gives them, with the source.

        Raises:
            PeerError: They differ.
        """
        ranges = [*VERIFIED_RANGES, (video.size - 1, 1)]
        requests = [peer.get(video), *(peer.get(video, start, length) for start, length in ranges)]
        expected = [self._source.sha256, *(self._source.sha256_of(start, length) for start, length in ranges)]
        if load.read(peer.address, requests, 1, hashing=True).digests != expected:
            raise PeerError(f"{peer.name} gives other bytes than were stored")

    async def observe(self, row: Row, peer: Peer, videos: list[StoredVideo], repetition: int) -> Observation:
        """Run one trial.

        Raises:
            PeerError: The peer answered wrongly.
        """
        if row.restart:
            await peer.stop()
            await peer.start()
        trial = Trial(peer, videos, random.Random(zlib.crc32(row.id.encode()) + repetition), self._source.path)
        row.prepare(trial)
        processes = peer.processes
        processes.reset_peak()
        before = processes.cpu_by_process()
        measured = row.measure(trial)
        outcome = measured if isinstance(measured, Outcome) else await measured
        spent = {name: value - before[name] for name, value in processes.cpu_by_process().items()}
        peak = processes.peak_rss_bytes()
        for video in trial.made:
            if repetition == 0 and self.storage.read(video, hashing=True).digests != [self._source.sha256]:
                raise PeerError(f"{peer.name} stored other bytes than were sent")
        self.discard(trial.made)
        values = {metric.value: value for metric, value in outcome.values.items()}
        cpu_seconds = sum(spent.values()) if spent else None
        return Observation(outcome.load, values, cpu_seconds, spent if outcome.load else outcome.by_process, peak)


async def run_row(lab: Lab, row: Row, repetitions: int, note: Callable[[str], None]) -> dict[str, list[Observation]]:
    """Run a row against its peers, in turns: in each repetition another one begins."""
    names = [name for name in row.peers if name in lab.peers]
    observations: dict[str, list[Observation]] = {name: [] for name in names}
    began = time.monotonic()
    for repetition in range(repetitions):
        videos = lab.videos_for(row)
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            try:
                observations[name].append(await lab.observe(row, lab.peers[name], videos, repetition))
            except PeerError as error:
                raise PeerError(f"{row.id}, {name}: {error}") from error
        lab.discard(videos)
    note(f"{row.id}: {time.monotonic() - began:.1f} s")
    return observations

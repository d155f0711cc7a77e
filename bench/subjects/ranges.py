"""Requests for ranges of videos."""

import random
from collections.abc import Sequence

from bench.load import Request
from bench.peers import Peer
from bench.storage import StoredVideo

MIB = 2**20


def one_per_mebibyte(
    peer: Peer, videos: Sequence[StoredVideo], length: int, rng: random.Random, count: int | None = None
) -> list[Request]:
    """Ranges of `length` bytes, at most one within each MiB of each video, in random order.

    None overlaps or touches another's MiB, so on a fresh video each is cold even for a cache of 1 MiB blocks.
    """
    slots = [(video, slot) for video in videos for slot in range(video.size // MIB)]
    rng.shuffle(slots)
    return [
        peer.get(video, slot * MIB + (rng.randrange(MIB - length) if length < MIB else 0), length)
        for video, slot in slots[:count]
    ]

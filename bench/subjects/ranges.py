"""Requests for ranges of videos."""

import random
from collections.abc import Sequence

from bench.load import Request
from bench.peers import Peer
from bench.storage import StoredVideo

MIB = 2**20


def scattered(
    peer: Peer, videos: Sequence[StoredVideo], length: int, rng: random.Random, slot_bytes: int
) -> list[Request]:
    """One range of `length` bytes at a random place within each slot of each video, in random order.

    The slots are whole MiB, so on a fresh video each range is cold even for a cache of 1 MiB blocks.
    """
    starts = [(video, start) for video in videos for start in range(0, video.size - slot_bytes + 1, slot_bytes)]
    rng.shuffle(starts)
    return [peer.get(video, start + rng.randrange(slot_bytes - length), length) for video, start in starts]

"""What a part of the list costs the catalogue."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from reelway.v1 import catalog_pb2, media_pb2

from gateway.operations.appends import Appends


class Catalog:
    """Has 2500 videos, and gives at most `most` of them at once: a message has a limit, too."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.asked: list[tuple[int, int]] = []

    async def ListVideos(self, request: catalog_pb2.ListVideosRequest, **_: Any) -> catalog_pb2.ListVideosResponse:
        self.asked.append((request.page_size, request.skip))
        first = min(int(request.page_token or 1) + request.skip, 2501)
        behind = min(first + min(request.page_size or 100, self.most), 2501)
        videos = [media_pb2.Video(number=number) for number in range(first, behind)]
        return catalog_pb2.ListVideosResponse(videos=videos, next_page_token=str(behind) if behind < 2501 else "")


async def listed(catalog: Catalog, offset: int, limit: int | None) -> list[int]:
    appends = Appends(Mock(), Mock(), 1)
    appends._catalog = catalog  # type: ignore[assignment]
    pages = [page async for page in appends.list(offset, limit)]
    assert pages, "an empty list is a page, too"
    return [video.number for page in pages for video in page]


@pytest.mark.parametrize(
    ("offset", "limit", "asked"),
    [
        (0, None, [(1000, 0), (1000, 0), (1000, 0)]),
        (600, None, [(1000, 600), (1000, 0)]),
        (0, 0, []),
        (17, 0, []),
        (0, 1, [(1, 0)]),
        (17, 3, [(3, 17)]),
        (0, 1000, [(1000, 0)]),
        (999, 1001, [(1000, 999), (1, 0)]),
        (2495, 10, [(10, 2495)]),
        (0, 10**30, [(1000, 0), (1000, 0), (1000, 0)]),
        (10**30, 1, [(1, 2**63 - 1)]),
    ],
)
async def test_no_more_is_asked_for_than_is_wanted(
    offset: int, limit: int | None, asked: list[tuple[int, int]]
) -> None:
    catalog = Catalog()
    everything = list(range(1, 2501))
    assert await listed(catalog, offset, limit) == everything[offset:][:limit]
    assert catalog.asked == asked


async def test_pages_that_are_shorter_than_asked_for_make_the_same_list() -> None:
    assert await listed(Catalog(most=7), 10, 15) == list(range(11, 26))

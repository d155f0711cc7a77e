"""PLAYBACK_MODE=redirect: the store itself gives the bytes out."""

from __future__ import annotations

import aiohttp

from tests.support.system import RunningSystem
from tests.support.videos_api import more, videos_api


async def test_a_viewer_is_sent_to_the_store(system: RunningSystem, mp4: bytes) -> None:
    async with (
        more(system, "gateway", PLAYBACK_MODE="redirect") as gateway,
        videos_api(f"http://{gateway.listen}") as api,
        aiohttp.ClientSession() as viewer,
    ):
        url = f"http://{gateway.listen}/videos/{await api.new_video(mp4)}/stream"
        async with viewer.get(url, headers={"Range": "bytes=5-9"}, allow_redirects=False) as told:
            assert told.status == 307
        async with viewer.get(url, headers={"Range": "bytes=5-9"}) as answer:
            assert (answer.status, await answer.read()) == (206, mp4[5:10])
        # What is signed for GET is refused for HEAD.
        async with viewer.head(url, allow_redirects=True) as answer:
            assert (answer.status, answer.content_length) == (200, len(mp4))
            assert answer.headers["ETag"]

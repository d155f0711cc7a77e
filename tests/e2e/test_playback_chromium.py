"""A page with a <video> plays an uploaded clip in Chromium, and seeks."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page, Response

from tests.support.browser import chromium
from tests.support.clips import make_clip
from tests.support.http_server import serving
from tests.support.system import RunningSystem
from tests.support.videos_api import videos_api

SECONDS = 30

# Waits for a frame that is really shown, and tells its time in the video.
SHOWN = """video => new Promise((resolve, reject) => {
    video.onerror = () => reject(video.error.message);
    video.requestVideoFrameCallback((_, frame) => resolve({
        time: frame.mediaTime, width: frame.width, error: video.error && video.error.message
    }));
    video.play();
})"""
SEEK = """(video, time) => new Promise((resolve, reject) => {
    video.onerror = () => reject(video.error.message);
    video.pause();
    video.onseeked = () => video.requestVideoFrameCallback((_, frame) => resolve(frame.mediaTime));
    video.currentTime = time;
    video.play();
})"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of noise: many megabytes, so that the browser does not simply fetch all of it."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    arguments = ["-vf", "noise=alls=40:allf=t", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    arguments += ["-g", "50", "-b:v", "4M", "-maxrate", "4M", "-bufsize", "4M", "-movflags", "+faststart"]
    return make_clip(path, arguments, seconds=SECONDS, size="320x240")


@pytest.fixture
async def page(system: RunningSystem) -> AsyncIterator[Page]:
    """A page of another origin than the API's, as an application's is."""

    async def answer(request: web.Request) -> web.Response:
        html = f"<!doctype html><title>player</title><video muted src='{request.query.get('src', '')}'></video>"
        return web.Response(text=html, content_type="text/html")

    async with serving(answer) as port, chromium() as browser:
        yield await browser.new_page(base_url=f"http://127.0.0.1:{port}")


async def test_a_clip_plays_and_seeks(system: RunningSystem, page: Page, clip: Path) -> None:
    data = clip.read_bytes()
    async with videos_api(system.base_url) as api:
        video_id = await api.new_video(data)
    answers: list[Response] = []
    page.on("response", lambda response: answers.append(response) if response.url.startswith(system.base_url) else None)
    await page.goto(f"/?src={system.base_url}/videos/{video_id}/stream")
    video = page.locator("video")
    first = await asyncio.wait_for(video.evaluate(SHOWN), 30)
    assert first["width"] == 320
    assert first["time"] < SECONDS / 2
    duration = await video.evaluate("video => video.duration")
    assert duration == pytest.approx(SECONDS, abs=0.5)

    before = len(answers)
    shown = await asyncio.wait_for(video.evaluate(SEEK, SECONDS - 3), 30)
    assert shown >= SECONDS - 4, "the frame that is shown is one from near the end"
    quality = await video.evaluate("video => video.getVideoPlaybackQuality().totalVideoFrames")
    assert quality > 1
    fetched = answers[before:]
    assert fetched, "the end was not in the browser's buffer"
    assert {answer.status for answer in answers} == {206}
    begins = [int(answer.headers["content-range"].split()[1].split("-")[0]) for answer in fetched]
    assert max(begins) > len(data) // 2

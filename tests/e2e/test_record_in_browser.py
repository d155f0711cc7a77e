"""examples/recorder.html in Chromium, with a camera that is none: recorded, sent while it is recorded, and played."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.browser import chromium
from tests.support.system import RunningSystem

PAGE = Path(__file__).parents[2] / "examples" / "recorder.html"
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


@pytest.mark.parametrize("source", ["camera", "canvas"])
async def test_a_recording_is_sent_while_it_is_made_and_plays(system: RunningSystem, source: str) -> None:
    async with chromium(*CAMERA) as browser, aiohttp.ClientSession(system.base_url) as http:
        page = await browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        await page.goto(f"{PAGE.as_uri()}?api={system.base_url}")
        await page.click(f"#{source}")
        # Some slices are there before it ends: it plays while it is recorded.
        await page.wait_for_function("parseInt(document.getElementById('state').textContent.slice(5)) > 10")
        newest = (await (await http.get("/api/record/videos/")).json())[-1]
        async with http.get(newest["video_file"]) as answer:
            assert answer.status == 200
            so_far = await answer.read()
            assert so_far[:4] == b"\x1a\x45\xdf\xa3" or so_far[4:8] == b"ftyp"
        await page.wait_for_timeout(1000)
        await page.click("#stop")
        await page.wait_for_function("document.getElementById('state').textContent.startsWith('Finished')")
        played: Any = await page.evaluate(
            """async () => {
                const video = document.getElementById("result")
                video.muted = true
                await video.play()
                await new Promise(done => { video.onended = done })
                return {width: video.videoWidth, seconds: video.currentTime, error: video.error?.message ?? null}
            }"""
        )
        assert played["error"] is None
        assert played["width"] > 0
        assert played["seconds"] > 1
        async with http.get(newest["video_file"]) as answer:
            whole = await answer.read()
        assert whole.startswith(so_far)
        assert len(whole) > len(so_far)
        assert not problems


async def test_one_recording_at_a_time_and_a_camera_that_is_let_go_of_when_it_fails(system: RunningSystem) -> None:
    async with chromium(*CAMERA) as browser:
        page = await browser.new_page()
        await page.add_init_script(
            """const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices)
            devices.getUserMedia = async wanted => (window.opened = await open(wanted))"""
        )
        await page.goto(f"{PAGE.as_uri()}?api=http://127.0.0.1:1")
        await page.click("#camera")
        await page.wait_for_function("document.getElementById('state').textContent.startsWith('It failed')")
        assert await page.evaluate("opened.getTracks().every(track => track.readyState === 'ended')")
        await page.goto(f"{PAGE.as_uri()}?api={system.base_url}")
        await page.click("#canvas")
        await page.wait_for_function("!document.getElementById('stop').disabled")
        assert await page.locator("#camera:disabled, #screen:disabled, #canvas:disabled").count() == 3
        await page.click("#stop")
        await page.wait_for_function("document.getElementById('state').textContent.startsWith('Finished')")
        assert await page.locator("#camera:enabled, #screen:enabled, #canvas:enabled").count() == 3

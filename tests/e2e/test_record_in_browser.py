"""examples/recorder.html in Chromium, with a camera that is none: recorded, sent while it is recorded, and played."""

import base64
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Dialog, Page, Route, expect

from tests.support.browser import chromium
from tests.support.http_server import serving
from tests.support.relay import Fault, Relay, relay_to
from tests.support.system import RunningSystem
from tests.support.waiting import until

PAGE = Path(__file__).parents[2] / "examples" / "recorder.html"
RECORD = "/api/record/videos"
FLAGS = (
    # The screen, too, is one of Chromium's own making then.
    "--use-fake-ui-for-media-stream",
    # Half the pictures that it would make: each is drawn, encoded and shown by the processor.
    "--use-fake-device-for-media-stream=fps=10",
    # A name that is this machine, but no secure context.
    "--host-resolver-rules=MAP recorder.test 127.0.0.1",
)
# Pauses of the page are so much shorter, slices a bit; what is recorded is not.
HURRY = """
    const slice = MediaRecorder.prototype.start, wait = setTimeout
    MediaRecorder.prototype.start = function (pause) { return slice.call(this, pause / 4) }
    window.setTimeout = (then, pause) => wait(then, pause / 40)
"""
# So are the times after which it gives up: only where it shall, for this machine may be slower than that.
SHORT_TRIES = """
    const timeout = AbortSignal.timeout
    AbortSignal.timeout = pause => timeout.call(AbortSignal, pause / 40)
"""
IMPATIENCE = """
    const now = performance.now.bind(performance)
    performance.now = () => 40 * now()
"""
# What the recorder made, to be compared with what arrived.
KEEP_SLICES = """
    window.slices = []
    const start = MediaRecorder.prototype.start
    MediaRecorder.prototype.start = function (...all) {
        window.recorder = this
        this.addEventListener("dataavailable", ({ data }) => slices.push(data))
        return start.apply(this, all)
    }
"""
MADE = """() => new Promise(done => {
    const reader = new FileReader()
    reader.onload = () => done(reader.result.split(",")[1])
    reader.readAsDataURL(new Blob(slices))
})"""
PLAY = """async () => {
    const video = document.getElementById("result")
    video.muted = true
    video.playbackRate = 4
    await video.play()
    await new Promise((done, failed) => { video.onended = done; video.onerror = () => failed(video.error.message) })
    return {width: video.videoWidth, seconds: video.currentTime, error: video.error?.message ?? null}
}"""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium(*FLAGS) as browser:
        yield browser


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    # Half of the default, for the same reason.
    page = await browser.new_page(viewport={"width": 640, "height": 480})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    await page.context.close()
    assert not problems


@pytest.fixture
async def relay(system: RunningSystem) -> AsyncIterator[Relay]:
    async with relay_to(system.base_url) as relay:
        yield relay


async def open_page(page: Page, api: str, *scripts: str) -> None:
    for script in scripts:
        await page.add_init_script(f"{{{script}}}")
    await page.goto(f"{PAGE.as_uri()}?api={api}")


async def begin(page: Page, source: str = "canvas") -> None:
    """Until something is recorded, so that it can be stopped."""
    await page.click(f"#{source}")
    await expect(page.locator("#stop")).to_be_enabled(timeout=60_000)


async def says(page: Page, text: str, seconds: float = 60) -> str:
    """What the page says as soon as it matches."""
    await expect(page.locator("#state")).to_have_text(re.compile(text), timeout=seconds * 1000)
    return await page.locator("#state").inner_text()


async def record(page: Page, milliseconds: float = 1000, source: str = "canvas") -> str:
    """A whole recording; what the page says in the end."""
    await begin(page, source)
    await page.wait_for_timeout(milliseconds)
    await page.click("#stop")
    return await says(page, "^Finished")


async def made(page: Page) -> bytes:
    """What was recorded since the page was opened."""
    return base64.b64decode(await page.evaluate(MADE))


async def newest(system: RunningSystem) -> tuple[int, bytes]:
    """The number of the newest video, and what is there of it."""
    async with aiohttp.ClientSession(system.base_url) as http:
        video = (await (await http.get(f"{RECORD}/")).json())[-1]
        async with http.get(video["video_file"]) as answer:
            return video["id"], await answer.read()


async def is_finished(system: RunningSystem, number: int) -> bool:
    """Whether it takes no more chunks."""
    async with aiohttp.ClientSession(system.base_url) as http:
        chunk = {"video_id": str(number), "video_chunck": ""}
        async with http.patch(f"{RECORD}/update_video_chunck", data=chunk) as answer:
            assert answer.status in (400, 409)
            return answer.status == 409


@pytest.mark.parametrize("source", ["camera", "screen", "canvas"])
async def test_a_recording_is_sent_while_it_is_made_and_plays(system: RunningSystem, page: Page, source: str) -> None:
    await open_page(page, system.base_url)
    await page.click(f"#{source}")
    # Some slices are there before it ends: it plays while it is recorded.
    await page.wait_for_function("parseInt(document.getElementById('state').textContent.slice(5)) > 10")
    _, so_far = await newest(system)
    assert so_far[:4] == b"\x1a\x45\xdf\xa3" or so_far[4:8] == b"ftyp"
    await page.wait_for_timeout(1000)
    await page.click("#stop")
    await says(page, "^Finished")
    played: Any = await page.evaluate(PLAY)
    assert played["error"] is None
    assert played["width"] > 0
    assert played["seconds"] > 1
    _, whole = await newest(system)
    assert whole.startswith(so_far)
    assert len(whole) > len(so_far)


async def test_one_recording_at_a_time_and_a_camera_that_is_let_go_of_when_it_fails(
    system: RunningSystem, page: Page
) -> None:
    await page.add_init_script(
        """const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices)
        devices.getUserMedia = async wanted => (window.opened = await open(wanted))"""
    )
    await open_page(page, "http://127.0.0.1:1")
    await page.click("#camera")
    await says(page, "^It failed")
    assert await page.evaluate("opened.getTracks().every(track => track.readyState === 'ended')")
    await open_page(page, system.base_url)
    await begin(page)
    assert await page.locator("#camera:disabled, #screen:disabled, #canvas:disabled").count() == 3
    await page.click("#stop")
    await says(page, "^Finished")
    assert await page.locator("#camera:enabled, #screen:enabled, #canvas:enabled").count() == 3


async def test_a_network_that_fails_for_long_costs_no_byte(system: RunningSystem, page: Page, relay: Relay) -> None:
    faults: list[Fault] = ["pass", "cut", 503, "lost", 408, "hang", "cut", 425, 429, "cut", 500, "pass", "lost"]
    relay.fail("PATCH", faults)
    await open_page(page, relay.url, HURRY, SHORT_TRIES, KEEP_SLICES)
    await begin(page)
    await says(page, "behind")
    # All are over, and it catches up: with no more to send, for a busy machine records faster than it sends.
    await until(lambda: len(relay.times("PATCH")) > len(faults), 60)
    await page.evaluate("recorder.pause()")
    await says(page, "^Sent [1-9](?!.*behind)")
    await page.click("#stop")
    assert re.fullmatch(r"Finished: video \d+\.", await says(page, "^Finished"))
    assert (await newest(system))[1] == await made(page)
    assert (await page.evaluate(PLAY))["seconds"] > 1


async def test_finishing_is_tried_again(system: RunningSystem, page: Page, relay: Relay) -> None:
    relay.fail("finalize", ["cut", 503, "lost"])
    relay.fail("GET", ["cut", 503, "lost"])
    await open_page(page, relay.url, HURRY)
    await record(page, 0)
    assert await is_finished(system, (await newest(system))[0])


async def test_a_server_says_when_it_is_to_be_tried_again(page: Page, relay: Relay) -> None:
    relay.fail("PATCH", [429])
    relay.retry_after = "3"
    await open_page(page, relay.url)
    await record(page, 0)
    first, second, *_ = relay.times("PATCH")
    assert 2.9 < second - first < 60


async def test_nobody_waits_for_a_day(page: Page, relay: Relay) -> None:
    relay.fail("PATCH", [503])
    relay.retry_after = "86400"
    await open_page(page, relay.url, HURRY)
    await record(page, 0)


@pytest.mark.parametrize("faults", [itertools.repeat("cut"), [413]], ids=["a network that stays away", "a refusal"])
async def test_what_arrived_is_finished_when_the_rest_cannot_be_sent(
    system: RunningSystem, page: Page, relay: Relay, faults: Any
) -> None:
    await open_page(page, relay.url, HURRY, IMPATIENCE, KEEP_SLICES)
    await begin(page)
    await page.wait_for_timeout(1000)
    # With no more to send, for a busy machine records faster than it sends.
    await page.evaluate("recorder.pause()")
    await says(page, "^Sent [1-9](?!.*behind)")
    relay.fail("PATCH", faults)
    await page.evaluate("recorder.resume()")
    # A refusal ends the recording by itself.
    if not isinstance(faults, list):
        await says(page, "behind")
        await page.click("#stop")
    assert re.search(r"missing, [1-9]\d* KiB", await says(page, "^Finished"))
    number, arrived = await newest(system)
    whole = await made(page)
    assert whole.startswith(arrived)
    assert len(arrived) < len(whole)
    assert await is_finished(system, number)
    assert (await page.evaluate(PLAY))["seconds"] > 0.4


async def leave(page: Page) -> None:
    await page.evaluate("setTimeout(() => { location = 'about:blank' })")


async def test_a_page_that_is_left_warns_and_finishes_what_arrived(system: RunningSystem, page: Page) -> None:
    asked: list[str] = []
    answers = iter([False, True])

    async def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await (dialog.accept() if next(answers) else dialog.dismiss())

    page.on("dialog", answer)
    await open_page(page, system.base_url)
    await begin(page)
    await says(page, "^Sent [1-9]")
    number, _ = await newest(system)
    await leave(page)
    await until(lambda: len(asked) == 1)
    assert not await is_finished(system, number)
    await leave(page)
    await page.wait_for_url("about:blank")
    assert asked == ["beforeunload"] * 2
    await until(lambda: is_finished(system, number))


async def test_a_page_that_has_sent_everything_is_left_without_a_question(system: RunningSystem, page: Page) -> None:
    asked: list[Dialog] = []
    page.on("dialog", lambda dialog: asked.append(dialog))  # noqa: PLW0108 - Playwright cannot wrap a builtin
    await open_page(page, system.base_url)
    await record(page, 0)
    await leave(page)
    await page.wait_for_url("about:blank")
    assert not asked


async def test_a_browser_that_cannot_record_begins_no_video(page: Page, relay: Relay) -> None:
    none = """
        window.MediaRecorder = class {
            static isTypeSupported() { return false }
            constructor() { throw new Error("Not here") }
        }"""
    await open_page(page, relay.url, none)
    await page.click("#canvas")
    assert "Not here" in await says(page, "^It failed")
    assert not relay.seen


@pytest.mark.parametrize(("known", "head"), [("video/mp4", b"ftyp"), ("", b"")])
async def test_a_browser_without_webm_records_what_it_has(
    system: RunningSystem, page: Page, known: str, head: bytes
) -> None:
    watch = """
        MediaRecorder.isTypeSupported = type => type === "%s"
        window.MediaRecorder = class extends MediaRecorder {
            constructor(stream, options) { super(stream, options); window.wanted = options?.mimeType ?? "" }
        }"""
    await open_page(page, system.base_url, watch % known)
    await record(page, 0)
    assert await page.evaluate("wanted") == known
    assert head in (await newest(system))[1][4:8]
    assert (await page.evaluate(PLAY))["seconds"] > 0.3


@pytest.mark.parametrize("source", ["camera", "screen"])
async def test_a_page_that_may_have_no_camera_says_why(page: Page, source: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=PAGE.read_text(), content_type="text/html")

    async with serving(answer) as port:
        await page.goto(f"http://recorder.test:{port}")
        await page.click(f"#{source}")
        said = await says(page, "^It failed")
    assert "https" in said
    assert "undefined" not in said


async def test_a_camera_without_a_microphone_records_without_sound(system: RunningSystem, page: Page) -> None:
    deaf = """
        const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices)
        devices.getUserMedia = async wanted => {
            if (wanted.audio) throw new DOMException("Requested device not found", "NotFoundError")
            return open(wanted)
        }"""
    await open_page(page, system.base_url, deaf)
    await begin(page, "camera")
    await says(page, "no sound")
    await page.wait_for_timeout(700)
    await page.click("#stop")
    await says(page, "^Finished")
    assert (await page.evaluate(PLAY))["seconds"] > 0.3


async def test_a_recording_plays_where_nobody_may_watch_without_a_token(system: RunningSystem, page: Page) -> None:
    async def watch(route: Route) -> None:
        await (route.continue_() if "authorization" in route.request.headers else route.fulfill(status=401))

    await page.route("**/stream_video/", watch)
    await open_page(page, f"{system.base_url}&token={system.token()}")
    await record(page, 0)
    assert (await page.evaluate(PLAY))["seconds"] > 0.3


async def test_a_recording_that_anybody_may_watch_is_not_fetched_whole(system: RunningSystem, page: Page) -> None:
    """It may be long, and the page would hold all of it."""
    await open_page(page, f"{system.base_url}&token={system.token()}")
    await record(page, 0)
    assert (await page.locator("#result").get_attribute("src") or "").startswith(system.base_url)


async def test_the_clock_stops_with_its_recording(system: RunningSystem, page: Page) -> None:
    count = """
        const request = requestAnimationFrame
        window.frames = 0
        window.requestAnimationFrame = draw => { frames++; return request(draw) }"""
    await open_page(page, system.base_url, count)
    await record(page, 0)
    drawn = await page.evaluate("frames")
    assert drawn > 5
    await page.wait_for_timeout(300)
    assert await page.evaluate("frames") == drawn


async def test_a_page_opened_as_a_file_records_to_this_machine(page: Page) -> None:
    # Nothing listens where it would go; which port of this machine somebody else uses is not for a test to find out.
    asked: list[str] = []

    async def refuse(route: Route) -> None:
        asked.append(route.request.url)
        await route.abort()

    await page.route("http://localhost:8000/**", refuse)
    await page.goto(PAGE.as_uri())
    assert "http://localhost:8000" in await page.inner_text("body")
    assert "?api=" in await page.inner_text("body")
    await page.click("#canvas")
    await says(page, "^It failed")
    assert asked == [f"http://localhost:8000{RECORD}/"]

"""What alerts and the dashboard count is counted, by the processes that do it."""

from collections.abc import Mapping
from uuid import uuid4

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.system import RunningSystem
from tests.support.videos_api import videos_api
from tests.support.waiting import until

STREAM = "/videos/{video_id}/stream"


async def value(system: RunningSystem, process: str, name: str, **labels: str) -> float:
    """Of a process's own page; 0 where it is not there yet."""
    url = f"http://{system.process(process).env['METRICS_LISTEN']}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        text = await answer.text()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_requests_bytes_and_jobs_are_counted(system: RunningSystem, mp4: bytes) -> None:
    # Process, metric, labels, and by how much it grows at least.
    rows: list[tuple[str, str, Mapping[str, str], float]] = [
        ("gateway", "reelway_http_requests_total", {"route": STREAM, "method": "GET", "status": "404"}, 2),
        ("gateway", "reelway_http_requests_total", {"route": STREAM, "method": "GET", "status": "206"}, 1),
        ("gateway", "reelway_http_requests_total", {"route": "unknown", "status": "404"}, 1),
        ("gateway", "reelway_http_request_seconds_count", {"route": STREAM, "method": "GET"}, 3),
        # The bounds go as far as an upload takes.
        ("gateway", "reelway_http_request_seconds_bucket", {"route": STREAM, "method": "GET", "le": "1800.0"}, 3),
        ("upload", "reelway_bytes_total", {"direction": "in"}, len(mp4)),
        ("stream", "reelway_bytes_total", {"direction": "out"}, len(mp4) - 1),
        ("upload", "reelway_rpc_handled_total", {"method": "/reelway.v1.UploadService/UploadVideo", "code": "OK"}, 1),
        ("worker", "reelway_jobs_ended_total", {"kind": "probe", "outcome": "completed"}, 1),
    ]
    before = [await value(system, process, name, **labels) for process, name, labels, _ in rows]
    async with videos_api(system.base_url) as api:
        path = f"/videos/{await api.new_video(mp4)}/stream"
        assert (await api.get(path, Range="bytes=1-")).status == 206
        for _ in range(2):
            assert (await api.get(f"/videos/{uuid4()}/stream")).status == 404
        assert (await api.get(f"/no/such/path/{uuid4()}")).status == 404
    for (process, name, labels, more), old in zip(rows, before, strict=True):

        async def has_grown(
            process: str = process, name: str = name, labels: Mapping[str, str] = labels, least: float = old + more
        ) -> bool:
            return await value(system, process, name, **labels) >= least

        await until(has_grown, 30)

    async def nothing_is_under_way() -> bool:
        return await value(system, "gateway", "reelway_http_requests_in_flight") == 0

    # What an earlier test has broken off may end now.
    await until(nothing_is_under_way)


async def test_the_queue_is_told_by_the_front(system: RunningSystem) -> None:
    """Zero or more of each kind: an alert on what is missing could never come."""
    url = f"http://{system.process('ffmpeg').env['METRICS_LISTEN']}/metrics"

    async def tells() -> bool:
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            text = await answer.text()
        return all(
            f'{name}{{kind="command"}}' in text for name in ("reelway_jobs_unfinished", "reelway_jobs_oldest_seconds")
        )

    await until(tells, 30)

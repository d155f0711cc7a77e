"""What /ready tells whoever balances: whether the services that every dialect needs serve."""

import json
from uuid import uuid4

from tests.support.system import RunningSystem
from tests.support.videos_api import VideosApi, more, several, videos_api
from tests.support.waiting import until


async def until_missing(api: VideosApi, *names: str) -> None:
    """Returns once /ready says so; that the process lives is another question."""
    said = (503, {"detail": f"Not ready: {', '.join(names)}"}) if names else (200, {"status": "ok"})

    async def says() -> bool:
        reply = await api.get("/ready")
        assert ("Retry-After" in reply.headers) == (reply.status == 503)
        return (reply.status, reply.json) == said

    await until(says)
    assert (await api.get("/health")).status == 200


async def test_a_gateway_is_ready_while_what_is_behind_it_serves(system: RunningSystem) -> None:
    names = ("upload", "stream", "catalog", "ffmpeg")
    async with several(*(more(system, name) for name in names)) as (upload, stream, catalog, ffmpeg):
        targets = {f"{one.service.name.upper()}_TARGET": one.listen for one in (upload, stream, catalog, ffmpeg)}
        async with more(system, "gateway", **targets) as gateway, videos_api(f"http://{gateway.listen}") as api:
            await ffmpeg.kill()
            await until_missing(api)
            await catalog.kill()
            await until_missing(api, "catalog")
            await stream.kill()
            await upload.kill()
            await until_missing(api, "upload", "stream", "catalog")
            assert (await api.get(f"/videos/{uuid4()}/stream")).status == 503
            await catalog.start()
            await until_missing(api, "upload", "stream")
            await upload.start()
            await stream.start()
            await until_missing(api)
            lines = [json.loads(line) for line in (system.log_dir / f"{gateway.name}.log").read_text().splitlines()]
    whys = [line["why"] for line in lines if line["event"] == "not ready"]
    assert whys[0].startswith("catalog: UNAVAILABLE: ")
    assert catalog.listen in whys[0], "and why it cannot be reached"
    assert len(whys) <= 5, "no line for each time that it is asked"
    failed = next(line for line in lines if line["event"] == "request" and line["path"] != "/ready")
    assert (failed["status"], failed["reason"]) == (503, "SERVICE_UNAVAILABLE")

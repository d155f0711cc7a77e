"""The image is built, the local overlay's pods run, and the system does its work in them: `make k8s-smoke`.

Needs root, and Debian's buildah, podman, runc and mmdebstrap.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.local.token import development_token
from tests.support.clips import make_clip
from tests.support.manifests import workloads
from tests.support.podman import Cluster, Pod, Podman
from tests.support.speech import clips, make, word_error_rate
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(1500)

TOKEN = development_token("local-only-secret-of-bearer-tokens-32-bytes", uuid4())
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
IMAGES = {"reelway": "localhost/reelway:0.1.0", "stores": "localhost/reelway-stores:0.1.0"}
STORES = ("redis", "s3")


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """With both images built."""
    found = Podman(tmp_path_factory.mktemp("podman"))
    for target, image in IMAGES.items():
        found.build(target, image)
    return found


@pytest.fixture(scope="module")
def cluster(podman: Podman) -> Iterator[Cluster]:
    """Every pod of the local overlay, started; removed with all that it wrote in the end."""
    made = Cluster(podman, "local")
    made.remove()
    try:
        made.plan()
        for pod in sorted(made.pods, key=lambda pod: pod.workload.name not in STORES):
            made.start(pod)
        yield made
    finally:
        made.remove()


async def _is_ready(pod: Pod) -> bool:
    """What the kubelet's readiness probe says."""
    probe = pod.workload.container["readinessProbe"]
    if "grpc" in probe:
        address = f"{pod.address}:{pod.workload.port(probe['grpc']['port'])}"
        async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                request = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
                answer = await stub.Check(request, timeout=probe["timeoutSeconds"])
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    if "httpGet" in probe:
        url = f"http://{pod.address}:{pod.workload.port(probe['httpGet']['port'])}{probe['httpGet']['path']}"
        try:
            async with aiohttp.ClientSession() as http, http.get(url, timeout=aiohttp.ClientTimeout(5)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False
    try:
        _, writer = await asyncio.open_connection(pod.address, pod.workload.port(probe["tcpSocket"]["port"]))
    except OSError:
        return False
    writer.close()
    return True


@pytest.fixture(scope="module")
async def ready(cluster: Cluster) -> Cluster:
    """The cluster once every pod passes its readiness probe."""
    for pod in cluster.pods:
        try:
            await until(lambda pod=pod: _is_ready(pod), 90)  # type: ignore[misc]
        except TimeoutError:
            pytest.fail(f"{pod.name} is not ready:\n{cluster.logs(pod)}")
    return cluster


class Client:
    """Somebody in front of the gateways, who knows which of them are ready."""

    def __init__(self, gateways: list[Pod], http: aiohttp.ClientSession) -> None:
        self.endpoints = list(gateways)
        self.http = http
        self.done: Counter[str] = Counter()
        self.enough = asyncio.Event()

    @property
    def url(self) -> str:
        """Of the next gateway."""
        self.endpoints.append(self.endpoints.pop(0))
        return f"http://{self.endpoints[0].address}:8000"

    async def upload(self, data: bytes) -> str:
        """The video's id."""
        form = aiohttp.FormData()
        form.add_field("video", data, filename="clip.mp4", content_type="video/mp4")
        async with self.http.post(f"{self.url}/videos", data=form, headers=HEADERS) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["id"])

    async def watch(self, video: str, data: bytes) -> None:
        """All of it, and a range."""
        async with self.http.get(f"{self.url}/videos/{video}/stream", headers=HEADERS) as answer:
            assert answer.status == 200, await answer.text()
            assert await answer.read() == data
        headers = {**HEADERS, "Range": "bytes=100-299"}
        async with self.http.get(f"{self.url}/videos/{video}/stream", headers=headers) as answer:
            assert answer.status == 206, await answer.text()
            assert await answer.read() == data[100:300]

    async def get(self, path: str) -> Any:
        """The JSON of a 200."""
        async with self.http.get(f"{self.url}{path}", headers=HEADERS) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            return json.loads(text)

    async def repeat(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Until it is enough."""
        while not self.enough.is_set():
            await work()
            self.done[name] += 1
            await asyncio.sleep(0.02)


@pytest.fixture
async def client(ready: Cluster) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        yield Client(ready.of("gateway"), http)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds of a real video."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    arguments = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
    return make_clip(path, arguments, seconds=2, size="320x180").read_bytes()


def test_the_image_has_what_runs_and_no_more(podman: Podman) -> None:
    for image in IMAGES.values():
        config = json.loads(podman.run("podman", "inspect", image))[0]
        assert config["User"] == "10001:10001"
        assert config.get("Healthcheck") in (None, {})
        assert config["Labels"]["org.opencontainers.image.title"]
    image = IMAGES["reelway"]
    shell = ("podman", "run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", image, "-c")
    tools = "gcc cc g++ tcc clang make pip pip3 git curl wget"
    assert podman.run(*shell, f"for tool in {tools}; do command -v $tool; done; true") == ""
    assert podman.run(*shell, "find / -xdev -user 10001 -o -xdev -type f -perm -o+w | head") == ""
    # Every entry point is there, and refuses an empty environment by name.
    for workload in workloads("local"):
        if workload.module and workload.module != "gateway":
            command = ["podman", "run", "--rm", "--network", "none", image, "-m", workload.module]
            with pytest.raises(AssertionError, match="settings: S3_BUCKET"):
                podman.run(*command)


async def test_pods_run_as_nobody_on_a_read_only_root(ready: Cluster) -> None:
    for pod in ready.pods:
        process = ready.process_of(pod)
        lines = (process / "status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["Uid"].split() == ["10001"] * 4
        assert int(status["CapBnd"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        root = next(line for line in (process / "mounts").read_text().splitlines() if line.split()[1] == "/")
        assert root.split()[3].split(",")[0] == "ro"


async def test_a_video_is_uploaded_and_streamed_and_worked_on_in_strict_isolation(client: Client, clip: bytes) -> None:
    isolation = await client.get("/health/isolation")
    assert (isolation["mode"], isolation["level"], isolation["ok"]) == ("strict", "kernel", True), isolation
    video = await client.upload(clip)
    await client.watch(video, clip)
    body = {
        "ffmpeg_command": "-i in_1 -vf scale=160:90 out_1",
        "input_files": {"in_1": f"video://{video}"},
        "output_files": {"out_1": "small.mp4"},
    }
    async with client.http.post(f"{client.url}/ffmpeg/register", json=body, headers=HEADERS) as answer:
        assert answer.status == 200, await answer.text()
        task = (await answer.json())["task_id"]

    async def finished() -> bool:
        return (await client.get(f"/ffmpeg/status/{task}"))["status"] in ("completed", "failed")

    await until(finished, 60)
    status = await client.get(f"/ffmpeg/status/{task}")
    assert (status["status"], status["error_message"]) == ("completed", None)


async def test_speech_becomes_words_without_anything_from_outside(client: Client, tmp_path: Path) -> None:
    wav, words = clips()[1]
    media = tmp_path / "speech.webm"
    picture = ("-f", "lavfi", "-i", "testsrc=size=64x36:rate=5:duration=3")
    await make(*picture, "-i", str(wav), "-c:v", "libvpx", "-c:a", "libopus", str(media))
    path = f"/videos/{await client.upload(await asyncio.to_thread(media.read_bytes))}/transcript"
    async with client.http.post(f"{client.url}{path}?language=en", headers=HEADERS) as answer:
        assert answer.status == 202, await answer.text()

    async def ended() -> bool:
        return (await client.get(path))["status"] in ("completed", "failed")

    await until(ended, 90)
    transcript = await client.get(path)
    assert transcript["status"] == "completed", transcript
    assert word_error_rate(words, transcript["text"]) <= 0.15


async def test_a_replica_stops_under_load_and_no_request_fails(ready: Cluster, client: Client, clip: bytes) -> None:
    video = await client.upload(clip)

    async def upload_and_watch() -> None:
        await client.watch(await client.upload(clip), clip)

    async with asyncio.TaskGroup() as load:
        for _ in range(2):
            load.create_task(client.repeat("upload", upload_and_watch))
            load.create_task(client.repeat("watch", lambda: client.watch(video, clip)))
        await until(lambda: min(client.done["upload"], client.done["watch"]) >= 3, 60)
        for name in ("upload", "stream", "catalog", "gateway"):
            pod = ready.of(name)[0]
            if name == "gateway":
                # Endpoints forget it while preStop sleeps.
                client.endpoints.remove(pod)
            before = Counter(client.done)
            await asyncio.to_thread(ready.stop, pod)
            await until(lambda before=before: all(client.done[key] > before[key] + 2 for key in before), 60)  # type: ignore[misc]
        client.enough.set()

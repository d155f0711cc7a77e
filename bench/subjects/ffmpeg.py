"""Tasks of the ffmpeg API beside the same ffmpeg by hand on local files."""

import http.client
import json
import resource
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.load import PeerError
from bench.registry import OURS, Bound, Metric, Outcome, Row, Target, Trial

TASK_SECONDS = 300.0
# Each look costs gateway and front a little, which is not the task's.
LOOK_SECONDS = 1.0
# What has a part in a task; the other processes idle beside it.
TAKING_PART = ("gateway", "ffmpeg", "worker", "stream")
SMALL = ("testsrc2=size=320x180:rate=25:duration=2", "-i in_1 -c:v libx264 -crf 23 out_1")
LONG = ("testsrc2=size=854x480:rate=25:duration=60", "-i in_1 -c:v libx264 -preset fast out_1")


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    seconds: float
    cpu_seconds: float


def clip(trial: Trial, source: str) -> Path:
    """A clip made once a run, from a source of lavfi."""
    path = trial.source.with_name(f"clip-{source.rpartition('=')[2]}.mp4")
    if not path.exists():
        making = ["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", str(path)]
        subprocess.run(["ffmpeg", "-v", "error", "-y", *making], check=True)
    return path


def by_hand(command: str, file: Path) -> Cost:
    """Run the command as a person would."""
    files = {"in_1": str(file), "out_1": str(file.with_suffix(".out.mp4"))}
    words = [files.get(word, word) for word in command.split()]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *words], check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def by_task(trial: Trial, command: str, video_id: str) -> dict[str, Any]:
    """Register the command and wait; the last status.

    Raises:
        PeerError: It failed.
    """
    body = {
        "ffmpeg_command": command,
        "input_files": {"in_1": f"video://{video_id}"},
        "output_files": {"out_1": "out.mp4"},
    }
    task = _call(trial, "POST", "/ffmpeg/register", json.dumps(body))
    deadline = time.monotonic() + TASK_SECONDS
    while task["status"] in ("pending", "running") and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        task = _call(trial, "GET", f"/ffmpeg/status/{task['task_id']}")
    if task["status"] != "completed":
        raise PeerError(f"the task is {task['status']}: {task['error_message']}")
    return task


def _call(trial: Trial, method: str, path: str, body: str = "") -> dict[str, Any]:
    host, port = trial.peer.address
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request(method, path, body or None, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if response.status != 200:
        raise PeerError(f"{method} {path}: {response.status} {text[:200]}")
    answer: dict[str, Any] = json.loads(text)
    return answer


def _seconds_between(task: dict[str, Any], first: str, second: str) -> float:
    return (datetime.fromisoformat(task[second]) - datetime.fromisoformat(task[first])).total_seconds()


def time_over(trial: Trial) -> Outcome:
    """From registered to completed, by the task's own times, less what ffmpeg takes by hand."""
    source, command = SMALL
    file = clip(trial, source)
    _, video = trial.peer.upload(file)
    hand = by_hand(command, file).seconds
    task = by_task(trial, command, video.video_id)
    queue, work = (
        _seconds_between(task, "created_at", "started_at"),
        _seconds_between(task, "started_at", "finished_at"),
    )
    return Outcome(
        values={Metric.SECONDS_OVER_FFMPEG: queue + work - hand},
        by_process={"until it starts": queue, "worker": work - hand},
    )


def cpu_over(trial: Trial) -> Outcome:
    """CPU time of the processes that take part, with their children, while the task runs, over ffmpeg's by hand."""
    source, command = LONG
    file = clip(trial, source)
    _, video = trial.peer.upload(file)
    hand = by_hand(command, file).cpu_seconds
    processes = trial.peer.processes
    before = processes.cpu_by_process()
    by_task(trial, command, video.video_id)
    after = processes.cpu_by_process()
    spent = {name: after[name] - before[name] for name in TAKING_PART}
    spent["worker"] -= hand
    shares = {name: 100 * value / hand for name, value in spent.items()}
    return Outcome(values={Metric.CPU_OVER_FFMPEG: sum(shares.values())}, by_process=shares)


ROWS = (
    Row(
        "ffmpeg.small",
        "task on a clip of 2 s, registered to completed",
        (Metric.SECONDS_OVER_FFMPEG,),
        time_over,
        peers=(OURS,),
    ),
    Row(
        "ffmpeg.encode",
        "task on a clip of 60 s",
        (Metric.CPU_OVER_FFMPEG, Metric.PEAK_RSS_MIB),
        cpu_over,
        peers=(OURS,),
    ),
)

TARGETS: tuple[Target, ...] = (
    Target("ffmpeg.small", Metric.SECONDS_OVER_FFMPEG, "", Bound.AT_MOST, 0.35),
    Target("ffmpeg.encode", Metric.CPU_OVER_FFMPEG, "", Bound.AT_MOST, 5),
)

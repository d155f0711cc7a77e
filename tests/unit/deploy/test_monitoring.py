"""Rules and dashboard ask for metrics that the processes have, and each alert is explained."""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY

from gateway.routes import DIALECTS
from gateway.video_response import VIDEO_TYPES
from services.common.error_catalog import ErrorReason
from services.ffmpeg import job_policy
from services.ffmpeg.job_policy import JobPolicy
from tests.support.manifests import KUBERNETES, of_kind, processes

MONITORING = KUBERNETES / "monitoring"
LUA = Path(job_policy.__file__).parent / "lua"
# Prometheus' own, cert-manager's, and those of every process that prometheus_client looks after.
FOREIGN = {"up", "certmanager_certificate_renewal_timestamp_seconds", "process_start_time_seconds",
           "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}  # fmt: skip
_NAME = re.compile(r"\b(?:reelway|certmanager|process)_[a-z_]+\b(?!-)|\bup\b")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of every process's metrics, as they are scraped."""
    for module in ("gateway.middleware", "gateway.unread_answers", "services.common.metrics",
                   "services.common.periodic", "services.ffmpeg.__main__", "services.ffmpeg.worker.worker",
                   "services.stream.playback", "services.upload.buffers"):  # fmt: skip
        importlib.import_module(module)
    names = {name for collector in REGISTRY._collector_to_names for name in REGISTRY._collector_to_names[collector]}
    return names | FOREIGN


def _rules() -> list[dict[str, str]]:
    rules: list[dict[str, str]] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"][0]["rules"]
    return rules


def _panels() -> Iterator[str]:
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_rules_and_panels_ask_for_what_there_is(known: set[str]) -> None:
    for expression in [*(rule["expr"] for rule in _rules()), *_panels()]:
        asked = set(_NAME.findall(re.sub(r'"[^"]*"', '""', expression)))
        assert asked, expression
        assert asked <= known, expression
        promql_parser.parse(re.sub(r"\$__\w+", "5m", expression))


def test_every_metric_of_ours_is_on_the_dashboard(known: set[str]) -> None:
    shown = " ".join(_panels())
    stems = {re.sub(r"_(bucket|sum|count|created|total)$", "", name) for name in known if name.startswith("reelway_")}
    assert {stem for stem in stems if stem not in shown} == set()


def test_routes_that_move_videos_are_not_slow() -> None:
    """What a viewer takes is as long as the viewer likes."""
    (slow,) = [rule["expr"] for rule in _rules() if rule["alert"] == "ReelwaySlow"]
    (left_out,) = re.findall(r'route!~"([^"]+)"', slow)
    operations = [operation for dialect in DIALECTS for operation in dialect if operation.method == "GET"]
    for operation in operations:
        given = {kind for answer in operation.answers.values() for kind in answer.media_types}
        moves = bool(given & {*VIDEO_TYPES, "text/event-stream"})
        for path in (operation.path, *operation.aliases):
            assert bool(re.fullmatch(left_out, path)) == (moves or path == "/ready"), path


def test_a_process_without_a_pod_is_missed_until_somebody_has_had_a_week() -> None:
    """Its targets vanish with its pods: the alert lasts for as long as it looks back for them."""
    (down,) = [rule["expr"] for rule in _rules() if rule["alert"] == "ReelwayDown"]
    assert re.findall(r"max_over_time\(up\{[^}]*\}\[(\w+)\]\)", down) == ["7d"]
    assert "offset" not in down


def test_who_waits_for_a_join_meets_no_error() -> None:
    """It is told so by a 503, every few seconds, for as long as the join of a long recording takes."""
    (errors,) = [rule["expr"] for rule in _rules() if rule["alert"] == "ReelwayErrors"]
    # Nor does it hide those of others among many requests of its own.
    left_out = re.findall(r'reelway_http_requests_total(?:\{.*?reason!="([^"]+)")?', errors)
    assert left_out == [ErrorReason.JOINING.name] * 2


def test_one_job_that_kills_its_workers_is_told() -> None:
    """No attempt of it fails: each ends with its worker, which is up again before anybody would miss it."""
    (restarts,) = [rule["expr"] for rule in _rules() if rule["alert"] == "ReelwayRestarts"]
    (too_many,) = re.findall(r"> (\d+)$", restarts.strip())
    assert int(too_many) < JobPolicy.lost_workers_max


def test_one_job_in_an_outage_of_its_own_is_no_lack_of_workers() -> None:
    """It waits between its attempts, each of which is over before anybody looks."""
    (no_workers,) = [rule["expr"] for rule in _rules() if rule["alert"] == "ReelwayNoWorkers"]
    (minutes,) = re.findall(r"increase\(reelway_jobs_ended_total\[(\d+)m\]\)", no_workers)
    (longest,) = re.findall(r"^local LONGEST_OUTAGE_PAUSE = (\d+)$", (LUA / "jobs.lua").read_text(), re.MULTILINE)
    # Twice: the attempt takes a while, too.
    assert int(minutes) * 60_000 >= 2 * int(longest)


def test_a_user_who_has_tasks_enough_is_no_want_of_room() -> None:
    (no_room,) = [rule["expr"] for rule in _rules() if rule["alert"] == "ReelwayNoRoom"]
    assert set(re.findall(r'reason="(\w+)"', no_room)) == {ErrorReason.TOO_MANY_REQUESTS.name}
    (left_out,) = set(re.findall(r'route!~"([^"]+)"', no_room))
    paths = {operation.path for dialect in DIALECTS for operation in dialect}
    assert {path for path in paths if re.fullmatch(left_out, path)} == {path for path in paths if "/ffmpeg/" in path}


def test_certificates_that_pods_must_be_restarted_for_are_those_that_they_read() -> None:
    """Not the ingress's, which cert-manager makes in this namespace, too, and which no pod of ours has."""
    (unused,) = [rule["expr"] for rule in _rules() if rule["alert"] == "ReelwayCertificateUnused"]
    (watched,) = re.findall(r'\bname=~"([^"]+)"', unused)
    mounted = {
        volume["secret"]["secretName"]
        for workload in processes("production")
        for volume in workload.pod["volumes"]
        if volume["name"] == "tls"
    }
    read = {item["metadata"]["name"] for item in of_kind("production", "Certificate")
            if item["spec"]["secretName"] in mounted}  # fmt: skip
    assert set(watched.split("|")) == read


def test_every_alert_is_explained() -> None:
    explained = set(re.findall(r"^\| (Reelway[A-Za-z]+) \|", (KUBERNETES / "README.md").read_text(), re.MULTILINE))
    assert explained == {rule["alert"] for rule in _rules()}


def test_the_pod_monitor_of_the_page_finds_every_process() -> None:
    readme = (KUBERNETES / "README.md").read_text()
    (told,) = re.findall(r"^```yaml\n(apiVersion.*?kind: PodMonitor.*?)^```", readme, re.M | re.S)
    monitor = yaml.safe_load(told)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for workload in processes("production"):
        assert monitor["metadata"]["namespace"] == workload.deployment["metadata"]["namespace"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= workload.labels.items()
        assert workload.port(endpoint["port"]) == 9090
    (policy,) = [item for item in of_kind("production", "NetworkPolicy") if item["metadata"]["name"] == "metrics"]
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 9090}]

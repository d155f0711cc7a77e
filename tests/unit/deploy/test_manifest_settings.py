"""Manifests and code agree: variables, entry points, probes, the numbers of a drain, the queue's keys."""

import base64
import importlib
import json
import re
from collections.abc import Mapping

import pytest
from pydantic import AliasChoices

from deploy.local.services import SERVICES
from gateway.routes import health
from gateway.settings import GatewaySettings
from services.catalog.settings import CatalogSettings
from services.common import channel
from services.common.server import LIVENESS, TIDY_SECONDS
from services.common.settings import RedisSettings, Settings
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import TAG
from services.ffmpeg.settings import FrontSettings, WorkerSettings
from services.ffmpeg.transcription.words import SAMPLE_RATE
from services.stream.settings import StreamSettings
from services.upload.settings import UploadSettings
from tests.support.manifests import KUBERNETES, OVERLAYS, Workload, named, of_kind, processes, quantity

PER_OVERLAY = pytest.mark.parametrize("overlay", OVERLAYS)
SETTINGS: Mapping[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "upload": UploadSettings,
    "stream": StreamSettings,
    "catalog": CatalogSettings,
    "ffmpeg": FrontSettings,
    "worker": WorkerSettings,
}


def names_of(settings: type[Settings]) -> dict[str, set[str]]:
    """For each field, the variables that set it; the first is the one that we write."""
    found = {}
    for field, info in settings.model_fields.items():
        alias = info.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias or field]
        found[field] = {str(choice).upper() for choice in choices}
    return found


def setting_of(workload: Workload, name: str) -> str | None:
    """The field that a variable sets, by its own name or as …_FILE."""
    for field, names in names_of(SETTINGS[workload.name]).items():
        if name in names or name.removesuffix("_FILE") in names:
            return field
    return None


def read_settings(workload: Workload, monkeypatch: pytest.MonkeyPatch, secrets: Mapping[str, str]) -> Settings:
    """The settings that the process would read in its pod, secrets given instead of their files."""
    for name, value in workload.environment.items():
        path = re.sub(r"-[a-z0-9]{10}(?=/)", "", value)
        if name.endswith("_FILE") and path in secrets:
            monkeypatch.setenv(name.removesuffix("_FILE"), secrets[path])
        else:
            monkeypatch.setenv(name, value)
    return SETTINGS[workload.name]()


PLACED = {
    "/run/secrets/peers/service-token-secret": "s" * 32,
    "/run/secrets/tokens/auth-jwt-secret": "t" * 32,
    "/run/secrets/redis/url": "rediss://redis.example.com:6379/0",
    "/run/secrets/s3/access-key-id": "key",
    "/run/secrets/s3/secret-access-key": "secret",
}


@PER_OVERLAY
def test_every_process_has_its_manifest_and_entry_point(overlay: str) -> None:
    assert {workload.name: workload.module for workload in processes(overlay)} == {
        service.name: service.module for service in SERVICES
    }
    for workload in processes(overlay):
        assert importlib.util.find_spec(f"{workload.module}.__main__") is not None
        assert "command" not in workload.container  # the image's entry point is the interpreter


@PER_OVERLAY
def test_every_variable_is_known_to_the_settings_of_its_process(overlay: str) -> None:
    for workload in processes(overlay):
        unknown = [name for name in workload.environment if setting_of(workload, name) is None]
        assert unknown == [], workload.name


def test_every_setting_is_in_a_manifest_or_listed_as_left_at_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z0-9_]+)` \| ([a-z, ]+) \|$", (KUBERNETES / "README.md").read_text(), re.MULTILINE)
    left = {name for name, _ in rows}
    used: set[str] = set()
    fields: dict[str, set[str]] = {}
    for overlay in OVERLAYS:
        for workload in processes(overlay):
            fields |= names_of(SETTINGS[workload.name])
            used |= {setting_of(workload, name) or "" for name in workload.environment}
    missing = {field.upper() for field, names in fields.items() if field not in used and not names & left}
    assert missing == set(), "set them in a manifest, or list them in deploy/k8s/README.md"
    superfluous = {name for name in left if not any(name in names for names in fields.values())}
    assert superfluous == set()
    assert {name for name in left for field in used if name in fields.get(field, set())} == set()
    for name, of in rows:
        whose = [process for process in SETTINGS if any(name in one for one in names_of(SETTINGS[process]).values())]
        assert of == ("all" if len(whose) == len(SETTINGS) else ", ".join(whose)), name


@PER_OVERLAY
def test_the_settings_take_what_the_manifests_say(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in processes(overlay):
        with monkeypatch.context() as environment:
            settings = read_settings(workload, environment, PLACED)
            assert settings.service_token_secret.get_secret_value() == "s" * 32
            assert bool(settings.grpc_tls_ca_file) == (overlay == "production")
            # A process whose name base/kustomization.yaml forgets would look for it in its own pod.
            if isinstance(settings, RedisSettings):
                assert settings.redis_url == PLACED["/run/secrets/redis/url"], workload.name


@PER_OVERLAY
def test_files_of_settings_are_mounted(overlay: str) -> None:
    for workload in processes(overlay):
        mounts = [mount["mountPath"] for mount in workload.container["volumeMounts"]]
        for name, value in workload.environment.items():
            if value.startswith("/") and (name.endswith("_FILE") or name.endswith("_DIR")):
                assert any(value == mount or value.startswith(f"{mount}/") for mount in mounts), value


@PER_OVERLAY
def test_ports_are_those_that_the_processes_listen_on(overlay: str) -> None:
    for workload in processes(overlay):
        variables = workload.environment
        ports = {port["name"]: port["containerPort"] for port in workload.container["ports"]}
        assert variables["METRICS_LISTEN"] == f"0.0.0.0:{ports.pop('metrics')}"
        if workload.name == "gateway":
            assert variables["HOST"] == "0.0.0.0"
            assert int(variables["PORT"]) == ports.pop("http")
        else:
            assert variables["HEALTH_LISTEN"] == f"0.0.0.0:{ports.pop('health')}"
        if "grpc" in ports:
            assert variables["GRPC_LISTEN"] == f"0.0.0.0:{ports.pop('grpc')}"
        assert ports == {}


@PER_OVERLAY
def test_probes_ask_what_the_code_answers(overlay: str) -> None:
    for workload in processes(overlay):
        startup, ready, live = (workload.container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
        if workload.name == "gateway":
            assert [probe["httpGet"]["path"] for probe in (startup, ready, live)] == ["/health", "/ready", "/health"]
            assert {"/health", "/ready"} <= {operation.path for operation in health.routes if operation.open}
            continue
        # "" says whether the stores are there, LIVENESS whether the process answers.
        assert [probe["grpc"].get("service", "") for probe in (startup, ready, live)] == [LIVENESS, "", LIVENESS]
        for probe in (startup, ready, live):
            assert probe["grpc"]["port"] == workload.port("health")


@PER_OVERLAY
def test_targets_are_headless_services_that_clients_balance_over(overlay: str) -> None:
    for workload in processes(overlay):
        for name, value in workload.environment.items():
            if name.endswith("_TARGET"):
                peer, port = re.fullmatch(r"dns:///([a-z]+):(\d+)", value).groups()  # type: ignore[union-attr]
                assert peer == name.removesuffix("_TARGET").lower()
                service = named(overlay, "Service", peer)["spec"]
                assert service["clusterIP"] == "None"
                # Else the name has no addresses while no pod is ready, and gRPC looks it up again ever more seldom.
                assert service["publishNotReadyAddresses"] is True
                # Headless: no translation on the way, the port is the container's.
                target = Workload(overlay, named(overlay, "Deployment", peer))
                assert int(port) == service["ports"][0]["port"] == target.port(service["ports"][0]["targetPort"])
    assert json.loads(channel._service_config())["loadBalancingConfig"] == [{"round_robin": {}}]


@PER_OVERLAY
def test_a_pod_is_given_the_time_that_its_drain_takes(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in processes(overlay):
        with monkeypatch.context() as environment:
            settings = read_settings(workload, environment, PLACED)
        before = workload.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert before >= (1 if workload.name == "worker" else 6)
        assert isinstance(
            settings, (GatewaySettings, UploadSettings, StreamSettings, CatalogSettings, FrontSettings, WorkerSettings)
        )
        drain = settings.drain_notice_seconds + settings.drain_seconds
        if isinstance(settings, WorkerSettings):
            # A running command ends before the pod does, or its handler gives it back.
            assert settings.drain_seconds >= settings.command_wall_seconds
            assert settings.job_kill_seconds + 5 < TIDY_SECONDS
        if not isinstance(settings, GatewaySettings):
            # Calls that are cut off have something to undo.
            drain += TIDY_SECONDS
        assert workload.pod["terminationGracePeriodSeconds"] > before + drain
        # CoreDNS as kubeadm sets it up keeps an answer for 30 s (until Kubernetes 1.32, and others still).
        called = any(port["name"] == "grpc" for port in workload.container["ports"])
        assert workload.deployment["spec"]["minReadySeconds"] >= (30 if called else 10)


def _settings_and_memory(overlay: str, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, float]:
    """What the pods of a deployment are set to, and the bytes of memory that each may have."""
    workload = Workload(overlay, named(overlay, "Deployment", name))
    with monkeypatch.context() as environment:
        settings = read_settings(workload, environment, PLACED)
    return settings, quantity(workload.container["resources"]["limits"]["memory"])


@PER_OVERLAY
def test_an_upload_pod_has_room_for_what_it_lets_in(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, memory = _settings_and_memory(overlay, "upload", monkeypatch)
    assert isinstance(settings, UploadSettings)
    ours, in_a_burst = 150 * 2**20, 1.7
    assert ours + in_a_burst * settings.upload_buffer_bytes <= memory


@PER_OVERLAY
def test_a_stream_pod_has_room_for_the_reads_that_it_lets_in(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, memory = _settings_and_memory(overlay, "stream", monkeypatch)
    assert isinstance(settings, StreamSettings)
    ours = 150 * 2**20
    assert ours + settings.stream_buffer_bytes <= memory


@PER_OVERLAY
def test_a_gateway_pod_has_room_for_what_it_holds(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, memory = _settings_and_memory(overlay, "gateway", monkeypatch)
    assert isinstance(settings, GatewaySettings)
    ours, bytes_a_character = 180 * 2**20, 4
    assert ours + settings.block_cache_bytes + bytes_a_character * settings.held_body_bytes <= memory
    assert ours + settings.block_cache_bytes + settings.unread_answer_bytes <= memory


@PER_OVERLAY
def test_one_gateway_pod_has_room_for_what_two_upload_pods_let_in(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fewest that there are of each; all uploads may come by one gateway while a node drains."""
    upload, _ = _settings_and_memory(overlay, "upload", monkeypatch)
    gateway, memory = _settings_and_memory(overlay, "gateway", monkeypatch)
    assert isinstance(upload, UploadSettings)
    assert isinstance(gateway, GatewaySettings)
    uploads = 2 * 85 * upload.upload_buffer_bytes / 2**30  # measured, as what each takes: deploy/k8s/README.md
    assert 180 * 2**20 + gateway.block_cache_bytes + uploads * 7 * 2**20 <= memory


def _most_memory(settings: WorkerSettings) -> float:
    """Bytes of a worker whose slots are all at what their watchdogs allow: commands and joins, then probes with their
    thumbnails, transcripts, and the worker itself."""
    ours = 2**29
    transcript = max(settings.transcribe_memory, 2**30)  # the model's, and before it that of ffmpeg
    commands = (settings.slots_command + settings.slots_join) * settings.command_memory_bytes
    return ours + commands + settings.slots_probe * 2**31 + settings.slots_transcribe * transcript


def _most_disk(settings: WorkerSettings) -> float:
    """Bytes of its work folder then."""
    model = 2**29
    samples = settings.transcribe_max_seconds * 2 * SAMPLE_RATE
    commands = settings.slots_command * (settings.command_input_bytes + settings.command_output_bytes)
    joins = settings.slots_join * 2 * settings.join_limits.output_bytes
    looks = settings.slots_probe * settings.command_input_bytes
    return model + commands + joins + looks + settings.slots_transcribe * (settings.command_input_bytes + samples)


@PER_OVERLAY
def test_a_worker_has_room_for_the_jobs_that_it_takes(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Workload(overlay, named(overlay, "Deployment", "worker"))
    front = Workload(overlay, named(overlay, "Deployment", "ffmpeg"))
    with monkeypatch.context() as environment:
        settings = read_settings(worker, environment, PLACED)
    assert isinstance(settings, WorkerSettings)
    limits = worker.container["resources"]["limits"]
    assert _most_memory(settings) <= quantity(limits["memory"])
    work = next(volume for volume in worker.pod["volumes"] if volume["name"] == "work")["emptyDir"]["sizeLimit"]
    assert _most_disk(settings) <= quantity(work)
    assert settings.work_dir.as_posix() == "/work"
    # Both say the same of a command's limits: the front plans what a worker runs.
    for name in ("COMMAND_MEMORY_BYTES", "COMMAND_THREADS", "ISOLATION"):
        assert worker.environment[name] == front.environment[name]
    assert settings.isolation == "strict"


@PER_OVERLAY
def test_transcripts_are_named_alike_where_they_are_asked_for_and_where_they_are_made(overlay: str) -> None:
    catalog, worker = (Workload(overlay, named(overlay, "Deployment", name)) for name in ("catalog", "worker"))
    for name in ("TRANSCRIBE_ENGINE", "TRANSCRIBE_MODEL", "TRANSCRIBE_LANGUAGE"):
        assert catalog.environment.get(name) == worker.environment.get(name)


def test_workers_are_scaled_by_every_kind_of_job(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Workload("production", named("production", "Deployment", "worker"))
    with monkeypatch.context() as environment:
        settings = read_settings(worker, environment, PLACED)
    assert isinstance(settings, WorkerSettings)
    (scaled,) = of_kind("production", "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"] == {"name": "worker"}
    assert 1 <= scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]
    # It would be what there is without jobs, whatever the least is.
    assert "idleReplicaCount" not in scaled["spec"]
    assert "replicas" not in worker.deployment["spec"]
    triggers = {one["metadata"]["listName"]: int(one["metadata"]["listLength"]) for one in scaled["spec"]["triggers"]}
    assert triggers == {f"{TAG}:unfinished:{kind}": settings.slots[kind] for kind in JobKind}
    authentication = {item["metadata"]["name"] for item in of_kind("production", "TriggerAuthentication")}
    assert {one["authenticationRef"]["name"] for one in scaled["spec"]["triggers"]} == authentication


def test_the_readme_makes_tokens_that_the_local_overlay_takes() -> None:
    (secret,) = [item["data"] for item in of_kind("local", "Secret") if item["metadata"]["name"].startswith("tokens-")]
    (told,) = re.findall(r"AUTH_JWT_SECRET=(\S+) make token", (KUBERNETES / "README.md").read_text())
    assert base64.b64decode(secret["auth-jwt-secret"]).decode() == told


def test_clients_are_told_the_address_of_the_ingress() -> None:
    """TLS ends there: a gateway that had to guess would tell http:// addresses."""
    (ingress,) = of_kind("production", "Ingress")
    (host,) = ingress["spec"]["tls"][0]["hosts"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [host]
    gateway = Workload("production", named("production", "Deployment", "gateway"))
    assert gateway.environment.get("PUBLIC_URL") == f"https://{host}"


def test_the_ingress_passes_on_any_body_as_it_comes_and_waits_for_slow_answers() -> None:
    (ingress,) = of_kind("production", "Ingress")
    told = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    # 0: of any size; how large one may be is the gateway's to say.
    assert (told["proxy-body-size"], told["proxy-request-buffering"], told["proxy-buffering"]) == ("0", "off", "off")
    # A task's events may be silent for as long as it waits, and nginx's own limit is a minute.
    assert int(told["proxy-read-timeout"]) >= 3600


def test_a_pod_that_goes_waits_out_a_silence_that_the_ingress_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    (ingress,) = of_kind("production", "Ingress")
    longest = float(ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-send-timeout"])
    for name in ("gateway", "upload"):
        pod = Workload("production", named("production", "Deployment", name))
        with monkeypatch.context() as environment:
            settings = read_settings(pod, environment, PLACED)
        assert isinstance(settings, (GatewaySettings, UploadSettings))
        assert settings.drain_seconds >= longest, name


def test_certificates_name_what_peers_call() -> None:
    certificates = {item["spec"]["secretName"]: item["spec"] for item in of_kind("production", "Certificate")}
    issuers = {item["metadata"]["name"]: item["spec"] for item in of_kind("production", "Issuer")}
    for workload in processes("production"):
        tls = next(volume for volume in workload.pod["volumes"] if volume["name"] == "tls")
        certificate = certificates[tls["secret"]["secretName"]]
        assert workload.name in certificate["dnsNames"]
        assert certificate["usages"] == ["server auth", "client auth"]
        authority = certificates[issuers[certificate["issuerRef"]["name"]]["ca"]["secretName"]]
        # A renewed CA with another key would divide the pods that have read it from those that have not.
        assert authority["privateKey"]["rotationPolicy"] == "Never"
        assert authority["isCA"] is True

"""The nearest to a cluster that runs without one: the image by buildah, an overlay's pods by `podman play kube`.

What podman's pods lack is replaced: Services by lines of /etc/hosts, Secrets by mounted files (podman 4.3 leaves
their values encoded), probes and endpoints by the test, which asks what the kubelet would.
"""

import base64
import copy
import ipaddress
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.manifests import ROOT, Object, Workload, of_kind, workloads

BASE = "localhost/reelway-base:bookworm"
DOCKERFILE = ROOT / "deploy" / "image" / "Dockerfile"
NETWORK = "reelway-smoke"
STOP_SECONDS = 60
# runc, because crun refuses cgroups of version 1; limits that a confined machine may set, too.
_CONFIG = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# What a kubelet acts on; podman would make something else of the probes. And ports,
# which it would publish on the machine, those of all replicas at the same address.
_LEFT_OUT = ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports")


class Podman:
    """podman and buildah with our configuration; every command fails loudly and in time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = folder / "containers.conf"
        config.write_text(_CONFIG)
        self._env = {**os.environ, "CONTAINERS_CONF": str(config), "BUILDAH_ISOLATION": "chroot"}

    def run(self, *command: str | Path, seconds: float = 120, stdin: str | None = None) -> str:
        """Its output; AssertionError with what it said where it fails."""
        result = subprocess.run(
            [str(word) for word in command],
            env=self._env,
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert result.returncode == 0, f"{' '.join(map(str, command))}\n{(result.stdout + result.stderr)[-3000:]}"
        return result.stdout

    def build(self, target: str, image: str) -> None:
        """Build one target of the Dockerfile on Debian's Python, as the real build does on Docker's."""
        self._make_base()
        mounts = []
        # A mirror behind a CA of the machine's own, or an index of its own.
        for path in ("/etc/ssl/certs", "/etc/pip.conf"):
            mounts += ["--volume", f"{path}:{path}:ro"] if Path(path).exists() else []
        self.run(
            "buildah", "bud", "--layers", "--isolation", "chroot", "--network", "host", "--pull-never", *mounts,
            "--build-arg", f"BASE={BASE}", "--target", target, "-t", image, "-f", DOCKERFILE, ".",
            seconds=900,
        )  # fmt: skip

    def _make_base(self) -> None:
        if self.run("buildah", "images", "--filter", f"reference={BASE}", "-q").strip():
            return
        archive = self.folder / "base.tar"
        packages = "python3,python3-venv,ca-certificates"
        self.run("mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", archive, seconds=600)
        container = self.run("buildah", "from", "scratch").strip()
        self.run("buildah", "add", "-q", container, archive, "/", seconds=300)
        self.run("buildah", "commit", "-q", container, BASE, seconds=300)
        self.run("buildah", "rm", container)
        archive.unlink()


@dataclass
class Pod:
    """One replica of a Deployment."""

    name: str
    address: str
    workload: Workload


class Cluster:
    """An overlay's pods on a network of their own."""

    def __init__(self, podman: Podman, overlay: str) -> None:
        self._podman, self._overlay = podman, overlay
        self._config_maps = of_kind(overlay, "ConfigMap")
        self._secrets = podman.folder / "secrets"
        self.pods: list[Pod] = []

    def plan(self) -> None:
        """Give every replica a name and an address."""
        self._podman.run("podman", "network", "create", NETWORK)
        found = json.loads(self._podman.run("podman", "network", "inspect", NETWORK))[0]
        hosts = ipaddress.ip_network(found["subnets"][0]["subnet"]).hosts()
        for _ in range(10):
            next(hosts)  # the gateway, and room for what is started by hand
        scalers = {item["metadata"]["name"]: item["spec"]["minReplicas"] for item in self._scalers()}
        for workload in workloads(self._overlay):
            count = scalers.get(workload.name) or workload.deployment["spec"]["replicas"]
            for number in range(1, count + 1):
                self.pods.append(Pod(f"{NETWORK}-{workload.name}-{number}", str(next(hosts)), workload))
        self._write_secrets()

    def _scalers(self) -> list[Object]:
        return of_kind(self._overlay, "HorizontalPodAutoscaler")

    def of(self, name: str) -> list[Pod]:
        """The replicas of a Deployment."""
        return [pod for pod in self.pods if pod.workload.name == name]

    def start(self, pod: Pod) -> None:
        """Play one pod."""
        manifest = self._podman.folder / f"{pod.name}.yaml"
        manifest.write_text(yaml.safe_dump_all([*self._config_maps, *self._claims(pod), self._manifest(pod)]))
        self._podman.run("podman", "play", "kube", "--network", NETWORK, "--ip", pod.address, manifest)

    def stop(self, pod: Pod) -> None:
        """SIGTERM, and time to drain; the exit status must be 0."""
        self._podman.run("podman", "stop", "-t", str(STOP_SECONDS), self._container(pod), seconds=STOP_SECONDS + 60)
        state = self._state(pod)
        assert state["ExitCode"] == 0, f"{pod.name}: {state}"

    def _state(self, pod: Pod) -> Mapping[str, Any]:
        found: list[dict[str, Any]] = json.loads(self._podman.run("podman", "inspect", self._container(pod)))
        state: dict[str, Any] = found[0]["State"]
        return state

    def process_of(self, pod: Pod) -> Path:
        """The folder of /proc of the pod's one process."""
        return Path("/proc") / str(self._state(pod)["Pid"])

    def logs(self, pod: Pod) -> str:
        """The end of what its process wrote."""
        command = ["podman", "logs", "--tail", "20", self._container(pod)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr

    def remove(self) -> None:
        """Everything of this cluster; safe to repeat, and before the first start."""
        pods = self._podman.run("podman", "pod", "ls", "--format", "{{.Name}}").split()
        self._remove_ours(pods, "podman", "pod", "rm", "-f", "-t", "0")
        self._remove_ours(self._podman.run("podman", "volume", "ls", "-q").split(), "podman", "volume", "rm", "-f")
        self._podman.run("podman", "network", "rm", "-f", NETWORK)

    def _remove_ours(self, names: list[str], *command: str) -> None:
        if ours := [name for name in names if name.startswith(NETWORK)]:
            self._podman.run(*command, *ours)

    @staticmethod
    def _container(pod: Pod) -> str:
        return f"{pod.name}-{pod.workload.container['name']}"

    def _claims(self, pod: Pod) -> list[Object]:
        volumes = [volume.get("persistentVolumeClaim", {}) for volume in pod.workload.pod["volumes"]]
        wanted = [volume.get("claimName") for volume in volumes]
        found = of_kind(self._overlay, "PersistentVolumeClaim")
        claims = [copy.deepcopy(claim) for claim in found if claim["metadata"]["name"] in wanted]
        for claim in claims:
            claim["metadata"]["name"] = f"{NETWORK}-{claim['metadata']['name']}"
        return claims

    def _manifest(self, pod: Pod) -> Object:
        spec: dict[str, Any] = copy.deepcopy(pod.workload.pod)
        for field in _LEFT_OUT:
            spec["containers"][0].pop(field, None)
        for volume in spec["volumes"]:
            if secret := volume.pop("secret", None):
                volume["hostPath"] = {"path": str(self._secrets / secret["secretName"]), "type": "Directory"}
            if claim := volume.get("persistentVolumeClaim"):
                claim["claimName"] = f"{NETWORK}-{claim['claimName']}"
        spec["hostAliases"] = [{"ip": peer.address, "hostnames": [peer.workload.name]} for peer in self.pods]
        spec["restartPolicy"] = "Never"  # a process that ends is to be seen
        metadata: Mapping[str, Any] = {"name": pod.name, "labels": pod.workload.labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _write_secrets(self) -> None:
        for secret in of_kind(self._overlay, "Secret"):
            folder = self._secrets / secret["metadata"]["name"]
            folder.mkdir(parents=True)
            for key, value in secret["data"].items():
                (folder / key).write_bytes(base64.b64decode(value))

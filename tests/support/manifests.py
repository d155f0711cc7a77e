"""The Kubernetes manifests as a cluster would get them, and how tests look into them."""

import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "k8s"
OVERLAYS = ("local", "production")
TOOLS = Path(sys.prefix) / "deploy-tools" / "bin"

Object = dict[str, Any]


def run_tool(name: str, *arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of requirements/deploy.txt; the result whatever its status is."""
    program = TOOLS / name
    assert program.exists(), f"{name} is not installed: make deploy-tools"
    # checkov is found by its interpreter's PATH; every tool is given its own folder first.
    env = {"PATH": f"{TOOLS}:/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    command = [str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, input=stdin, check=False)


@functools.cache
def rendered_text(overlay: str) -> str:
    """What `kubectl kustomize` makes of an overlay."""
    result = run_tool("kubectl", "kustomize", KUBERNETES / "overlays" / overlay)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr  # a deprecation would be told here
    return result.stdout


@functools.cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """The objects of an overlay."""
    return tuple(yaml.safe_load_all(rendered_text(overlay)))


def of_kind(overlay: str, *kinds: str) -> list[Object]:
    """An overlay's objects of these kinds."""
    return [item for item in rendered(overlay) if item["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Object:
    """The object of a kind and name."""
    return next(item for item in of_kind(overlay, kind) if item["metadata"]["name"] == name)


@dataclass(frozen=True)
class Workload:
    """A Deployment and its one container."""

    overlay: str
    deployment: Object

    @property
    def name(self) -> str:
        """Of the Deployment."""
        name: str = self.deployment["metadata"]["name"]
        return name

    @property
    def pod(self) -> Object:
        """The pod's spec."""
        pod: Object = self.deployment["spec"]["template"]["spec"]
        return pod

    @property
    def labels(self) -> dict[str, str]:
        """Of the pod."""
        labels: dict[str, str] = self.deployment["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def container(self) -> Object:
        """The only one."""
        (container,) = self.pod["containers"]
        assert isinstance(container, dict)
        return container

    @property
    def module(self) -> str:
        """What `python -m` runs; empty where it is none of our processes."""
        arguments = self.container.get("args", [])
        return arguments[1] if arguments[:1] == ["-m"] else ""

    @property
    def environment(self) -> dict[str, str]:
        """Every variable that its process gets, with its value."""
        variables: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            variables |= named(self.overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
        return variables | {entry["name"]: entry["value"] for entry in self.container.get("env", [])}

    def port(self, name_or_number: str | int) -> int:
        """The number of a container port."""
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        return ports[name_or_number] if isinstance(name_or_number, str) else name_or_number


def workloads(overlay: str) -> Iterator[Workload]:
    """Each Deployment of an overlay."""
    return (Workload(overlay, item) for item in of_kind(overlay, "Deployment"))


def processes(overlay: str) -> list[Workload]:
    """Our own processes, the local overlay's stores left out."""
    return [workload for workload in workloads(overlay) if workload.module]


def quantity(value: str | int) -> float:
    """A Kubernetes quantity as a number: cores or bytes."""
    text = str(value)
    for suffix, factor in (("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("m", 1e-3)):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)

"""Rules that an API server enforces, or a node, and that no schema holds."""

import ipaddress
import itertools
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.settings import GatewaySettings
from services.ffmpeg import addresses
from tests.support.manifests import (
    OVERLAYS,
    Object,
    Workload,
    named,
    of_kind,
    processes,
    quantity,
    rendered,
    workloads,
)

PER_OVERLAY = pytest.mark.parametrize("overlay", OVERLAYS)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
CLUSTER_WIDE = {"Namespace", "PriorityClass"}
# The pods that cert-manager makes beside ours, while it is given a certificate for the ingress.
ACME_SOLVER = {"acme.cert-manager.io/http01-solver": "true"}


def _walk(node: Any) -> Iterator[Object]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "teach this test matchExpressions"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


@PER_OVERLAY
def test_names_and_labels_are_legal_and_names_unique(overlay: str) -> None:
    seen = set()
    for item in rendered(overlay):
        metadata = item["metadata"]
        assert _DNS_LABEL.fullmatch(metadata["name"]), metadata["name"]
        key = (item["apiVersion"], item["kind"], metadata["name"])
        assert key not in seen
        seen.add(key)
        assert metadata.get("namespace") == (None if item["kind"] in CLUSTER_WIDE else "reelway")
        for value in metadata.get("labels", {}).values():
            assert _LABEL_VALUE.fullmatch(value), value


@PER_OVERLAY
def test_ports_are_ports_and_what_names_one_finds_it(overlay: str) -> None:
    pods = list(workloads(overlay))
    for workload in pods:
        names = [port["name"] for port in workload.container["ports"]]
        numbers = [port["containerPort"] for port in workload.container["ports"]]
        assert len(set(names)) == len(names)
        assert len(set(numbers)) == len(numbers)
        # An unprivileged user cannot bind the lower ones everywhere.
        assert all(1024 <= number <= 65535 for number in numbers)
        assert all(re.fullmatch(r"[a-z0-9-]{1,15}", name) for name in names)
        for probe in _probes(workload):
            port = next(iter(probe.values()))["port"]
            assert workload.port(port) in numbers
    for service in of_kind(overlay, "Service"):
        chosen = [pod for pod in pods if service["spec"]["selector"].items() <= pod.labels.items()]
        assert len(chosen) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert 1 <= port["port"] <= 65535
            assert chosen[0].port(port["targetPort"]) > 0


def _probes(workload: Workload) -> Iterator[Object]:
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = workload.container[kind]
        (action,) = {"grpc", "httpGet", "tcpSocket"} & set(probe)
        yield {action: probe[action]}
        assert probe.get("timeoutSeconds", 1) >= 1
        assert kind == "readinessProbe" or probe.get("successThreshold", 1) == 1


@PER_OVERLAY
def test_selectors_are_those_of_their_pods(overlay: str) -> None:
    for workload in workloads(overlay):
        assert _selects(workload.deployment["spec"]["selector"], workload.labels)
        for spread in workload.pod.get("topologySpreadConstraints", []):
            assert _selects(spread["labelSelector"], workload.labels)
            assert spread["maxSkew"] >= 1
        update = workload.deployment["spec"]["strategy"].get("rollingUpdate")
        assert update in (None, {"maxUnavailable": 0, "maxSurge": 1})
    for workload in processes(overlay):
        assert {spread["topologyKey"] for spread in workload.pod["topologySpreadConstraints"]} == {
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        }


@PER_OVERLAY
def test_autoscalers_have_a_range_and_a_target_that_asks_for_cpu(overlay: str) -> None:
    scalers = of_kind(overlay, "HorizontalPodAutoscaler")
    assert {scaler["metadata"]["name"] for scaler in scalers} == {"gateway", "upload", "stream"}
    for scaler in scalers:
        spec = scaler["spec"]
        assert 1 <= spec["minReplicas"] < spec["maxReplicas"]
        target = Workload(overlay, named(overlay, "Deployment", spec["scaleTargetRef"]["name"]))
        # A number beside an autoscaler would be set back at each apply.
        assert "replicas" not in target.deployment["spec"]
        assert quantity(target.container["resources"]["requests"]["cpu"]) > 0
        for metric in spec["metrics"]:
            assert 1 <= metric["resource"]["target"].get("averageUtilization", 100) <= 100
        for direction in spec["behavior"].values():
            assert 0 <= direction["stabilizationWindowSeconds"] <= 3600


@PER_OVERLAY
def test_autoscalers_look_at_memory_long_before_a_pod_is_killed_for_it(overlay: str) -> None:
    """Clients that pause keep their buffers and need no CPU."""
    for scaler in of_kind(overlay, "HorizontalPodAutoscaler"):
        pod = Workload(overlay, named(overlay, "Deployment", scaler["spec"]["scaleTargetRef"]["name"]))
        resources = pod.container["resources"]
        targets = {metric["resource"]["name"]: metric["resource"]["target"] for metric in scaler["spec"]["metrics"]}
        assert set(targets) == {"cpu", "memory"}, pod.name
        target = targets["memory"]
        if target["type"] == "Utilization":
            wanted = quantity(resources["requests"]["memory"]) * target["averageUtilization"] / 100
        else:
            wanted = quantity(target["averageValue"])
        # It acts at a tenth above its target, a minute passes until a new pod serves, and an average hides the fullest.
        assert 1.1 * wanted <= 0.7 * quantity(resources["limits"]["memory"]), pod.name


@PER_OVERLAY
def test_gateways_whose_caches_are_full_are_scaled_down(overlay: str) -> None:
    """A cache is never given back: counted as load, it would keep every pod that a peak has made."""
    (scaler,) = [one for one in of_kind(overlay, "HorizontalPodAutoscaler") if one["metadata"]["name"] == "gateway"]
    (target,) = [
        metric["resource"]["target"]["averageValue"]
        for metric in scaler["spec"]["metrics"]
        if metric["resource"]["name"] == "memory"
    ]
    cache = GatewaySettings.model_fields["block_cache_bytes"].default
    idle = quantity("140Mi") + cache  # measured: deploy/k8s/README.md
    # Of three pods two are left where the ratio, rounded up to whole pods, says so.
    assert idle / quantity(target) <= 2 / 3


@PER_OVERLAY
def test_disruption_budgets_let_a_node_drain(overlay: str) -> None:
    budgets = {budget["metadata"]["name"]: budget["spec"] for budget in of_kind(overlay, "PodDisruptionBudget")}
    assert set(budgets) == {workload.name for workload in processes(overlay)}
    for workload in processes(overlay):
        # Without it a pod with an emptyDir keeps cluster-autoscaler from its node.
        annotations = workload.deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "true"
    for name, spec in budgets.items():
        # The API server takes one of the two, and not both.
        assert len({"minAvailable", "maxUnavailable"} & set(spec)) == 1
        assert spec.get("maxUnavailable", 1) == 1
        assert _selects(spec["selector"], Workload(overlay, named(overlay, "Deployment", name)).labels)


@PER_OVERLAY
def test_network_policies_name_real_networks_and_pods(overlay: str) -> None:
    pods = [*(workload.labels for workload in workloads(overlay)), ACME_SOLVER]
    for policy in of_kind(overlay, "NetworkPolicy"):
        spec = policy["spec"]
        assert any(_selects(spec["podSelector"], labels) for labels in pods), policy["metadata"]["name"]
        for direction, rules in (("Ingress", spec.get("ingress")), ("Egress", spec.get("egress"))):
            assert rules is None or direction in spec["policyTypes"]
        for node in _walk(spec):
            if "cidr" in node:
                whole = ipaddress.ip_network(node["cidr"])
                # Strict validation of new API servers: IPv4 is not written as IPv6.
                assert not any(cidr.startswith("::ffff:") for cidr in [node["cidr"], *node.get("except", [])])
                for hole in map(ipaddress.ip_network, node.get("except", [])):
                    assert hole.version == whole.version
                    assert hole != whole
                    assert hole.subnet_of(whole)  # type: ignore[arg-type]  # the versions are equal
            if isinstance(node.get("podSelector"), dict) and "namespaceSelector" not in node and node is not spec:
                assert any(_selects(node["podSelector"], labels) for labels in pods), node


@PER_OVERLAY
def test_everything_is_denied_that_no_policy_allows(overlay: str) -> None:
    assert named(overlay, "NetworkPolicy", "default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


@PER_OVERLAY
def test_a_worker_reaches_no_address_of_the_cluster_or_of_its_provider(overlay: str) -> None:
    blocks = [
        node["ipBlock"]
        for node in _walk(named(overlay, "NetworkPolicy", "worker")["spec"]["egress"])
        if "ipBlock" in node
    ]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
    for address in ("10.96.0.1", "172.17.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.169.254",
                    "168.63.129.16", "192.0.0.192", "::1", "fd00:ec2::254", "fe80::1",
                    "64:ff9b::a00:1", "2002:a00:1::"):  # fmt: skip
        for block in blocks:
            inside = ipaddress.ip_address(address) in ipaddress.ip_network(block["cidr"])
            holes = map(ipaddress.ip_network, block["except"])
            assert not inside or any(ipaddress.ip_address(address) in hole for hole in holes), address
    # Nobody talks to it but who scrapes.
    worker = Workload(overlay, named(overlay, "Deployment", "worker"))
    openings = [
        policy["metadata"]["name"]
        for policy in of_kind(overlay, "NetworkPolicy")
        if policy["spec"].get("ingress") and _selects(policy["spec"]["podSelector"], worker.labels)
    ]
    assert openings == ["metrics"]


@PER_OVERLAY
def test_a_worker_reaches_every_port_that_an_input_may_name(overlay: str) -> None:
    """Or a task is registered whose input can never be fetched."""
    rules = named(overlay, "NetworkPolicy", "worker")["spec"]["egress"]
    (open_ports,) = [rule["ports"] for rule in rules if "ipBlock" in rule["to"][0]]
    assert {port["port"] for port in open_ports} == addresses._PORTS


@PER_OVERLAY
def test_what_a_process_calls_lets_it_in_and_nothing_else_does(overlay: str) -> None:
    """Each …_TARGET of a pod is allowed on both sides, at the port that it names; no other pair of processes is."""
    calls: dict[tuple[str, str], int] = {}
    for workload in processes(overlay):
        for name, value in workload.environment.items():
            if name.endswith("_TARGET"):
                peer, port = re.fullmatch(r"dns:///([a-z]+):(\d+)", value).groups()  # type: ignore[union-attr]
                calls[workload.name, peer] = int(port)
    # The gateway calls every service; upload, stream, worker and catalog call 2, 3, 3 and 1 of them.
    assert len(calls) == len(("upload", "stream", "catalog", "ffmpeg")) + 2 + 3 + 3 + 1
    ports = {peer: port for (_, peer), port in calls.items()}
    for caller, peer in itertools.product([workload.name for workload in processes(overlay)], ports):
        expected = (caller, peer) in calls
        out = _allows(overlay, "egress", "to", owner=caller, peer=peer, port=ports[peer])
        into = _allows(overlay, "ingress", "from", owner=peer, peer=caller, port=ports[peer])
        assert (out, into) == (expected, expected), (caller, peer)


@PER_OVERLAY
def test_who_has_a_key_to_a_store_reaches_it_and_nobody_else(overlay: str) -> None:
    s3 = urlsplit(Workload(overlay, named(overlay, "Deployment", "stream")).environment["S3_ENDPOINT_URL"])
    for policy, key, port in (
        ("uses-redis", "REDIS_URL_FILE", 6379),
        ("uses-s3", "AWS_ACCESS_KEY_ID_FILE", s3.port or {"https": 443}[s3.scheme]),
    ):
        spec = named(overlay, "NetworkPolicy", policy)["spec"]
        reach = {workload.name for workload in processes(overlay) if _selects(spec["podSelector"], workload.labels)}
        assert reach == {workload.name for workload in processes(overlay) if key in workload.environment}
        assert reach, policy
        assert [rule["ports"] for rule in spec["egress"]] == [[{"protocol": "TCP", "port": port}]]


def _allows(overlay: str, direction: str, side: str, *, owner: str, peer: str, port: int) -> bool:
    rules = named(overlay, "NetworkPolicy", owner)["spec"].get(direction, [])
    labels = Workload(overlay, named(overlay, "Deployment", peer)).labels
    return any(
        port in [open_port["port"] for open_port in rule["ports"]]
        and any(_selects(node["podSelector"], labels) for node in rule.get(side, []) if "podSelector" in node)
        for rule in rules
    )


@PER_OVERLAY
def test_pods_are_restricted(overlay: str) -> None:
    """The `restricted` profile, a read-only root, and no key to the API server."""
    namespace = named(overlay, "Namespace", "reelway")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"
    for account in of_kind(overlay, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for workload in workloads(overlay):
        pod, security = workload.pod, workload.pod["securityContext"]
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] >= 10_000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} <= {
            "emptyDir",
            "secret",
            "persistentVolumeClaim",
        }
        for volume in pod["volumes"]:
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]
        assert workload.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@PER_OVERLAY
def test_requests_fit_into_limits_and_volumes_into_the_disk(overlay: str) -> None:
    for workload in workloads(overlay):
        resources = workload.container["resources"]
        for name in ("cpu", "memory", "ephemeral-storage"):
            assert 0 < quantity(resources["requests"][name]) <= quantity(resources["limits"][name])
        scratch = sum(
            quantity(volume["emptyDir"]["sizeLimit"]) for volume in workload.pod["volumes"] if "emptyDir" in volume
        )
        assert scratch <= quantity(resources["limits"]["ephemeral-storage"]), workload.name
        if workload.module:
            # What it logs counts, too: kubelet keeps five files of 10 MiB, and many platforms set 50.
            logs = quantity("256Mi")
            assert scratch + logs <= quantity(resources["limits"]["ephemeral-storage"]), workload.name


@PER_OVERLAY
def test_priorities_and_claims_and_secrets_exist(overlay: str) -> None:
    classes = {item["metadata"]["name"]: item for item in of_kind(overlay, "PriorityClass")}
    claims = {item["metadata"]["name"] for item in of_kind(overlay, "PersistentVolumeClaim")}
    secrets = {re.sub(r"-[a-z0-9]{10}$", "", item["metadata"]["name"]) for item in of_kind(overlay, "Secret")}
    made = {item["spec"]["secretName"] for item in of_kind(overlay, "Certificate")}
    brought = {"peers", "redis", "s3"}  # the README's list for production
    for workload in workloads(overlay):
        assert workload.pod["priorityClassName"] in classes
        for volume in workload.pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "secret" in volume:
                name = re.sub(r"-[a-z0-9]{10}$", "", volume["secret"]["secretName"])
                assert name in (secrets if overlay == "local" else brought | made), name
        mounted = {mount["name"] for mount in workload.container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in workload.pod["volumes"]}
    # Priorities order who waits for room. In a cluster that others share, nothing is pushed out for us.
    assert {item.get("preemptionPolicy") for item in classes.values()} == {"Never"}
    assert classes["reelway-work"]["value"] < classes["reelway-serving"]["value"] < 10**9

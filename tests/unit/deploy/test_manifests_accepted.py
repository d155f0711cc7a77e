"""Independent checkers take the manifests and the image's recipe."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from services.common.allocator import TUNABLES
from tests.support.manifests import OVERLAYS, ROOT, Object, of_kind, rendered, rendered_text, run_tool, workloads

# The oldest version with `preStop: sleep`, which has nothing that came later, and the newest that the checker knows,
# which has nothing that was removed meanwhile; and one between.
KUBERNETES_VERSIONS = ("1.30", "1.34", "1.37")

# What checkov asks for and does not get, and why.
CHECKOV_SKIPS = {
    "CKV_K8S_15": "imagePullPolicy Always: a tag is never reused, and kind has its images without a registry",
    "CKV_K8S_43": "image by digest: a release's digest is known once it is pushed; the README says where to set it",
}

# Resources of add-ons, which the API server's own schemas do not know.
ADD_ONS = ("keda.sh/", "cert-manager.io/")


def _is_add_on(item: Object) -> bool:
    return str(item["apiVersion"]).startswith(ADD_ONS)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_fits_the_schemas_of_a_version(version: str, tmp_path: Path) -> None:
    core = [item for overlay in OVERLAYS for item in rendered(overlay) if not _is_add_on(item)]
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump_all(core))
    result = run_tool("kubernetes-validate", "--strict", "-k", version, manifest)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (result.stdout + result.stderr).count(" passed for resource ") == len(core)


def test_the_checker_refuses_an_unknown_field(tmp_path: Path) -> None:
    broken = yaml.safe_load(rendered_text("local").split("\n---\n")[0]) | {"sped": {}}
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(broken))
    assert run_tool("kubernetes-validate", "--strict", "-k", KUBERNETES_VERSIONS[-1], manifest).returncode != 0


def test_checkov_finds_nothing_but_what_is_skipped_with_a_reason(tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay}.yaml").write_text(rendered_text(overlay))
    result = run_tool("checkov", "--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "-d", tmp_path)
    # Exactly these, found by running without them: a skip that is not needed any more is to go.
    assert set(re.findall(r"Check: (\w+)", result.stdout)) == set(CHECKOV_SKIPS), result.stdout + result.stderr
    (passed,) = re.findall(r"Passed checks: (\d+)", result.stdout)
    assert int(passed) > 1000


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_have_a_version_of_their_own(overlay: str) -> None:
    for workload in workloads(overlay):
        image, _, tag = workload.container["image"].rpartition(":")
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag), workload.container["image"]
        assert image


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_come_by_reference(overlay: str) -> None:
    """The production overlay makes none, and no variable of a container holds one."""
    assert overlay == "local" or of_kind(overlay, "Secret") == []
    for workload in workloads(overlay):
        for name in workload.environment:
            assert not re.search(r"(SECRET|PASSWORD|KEY|ACCESS_KEY_ID|REDIS_URL)$", name), name


def test_the_base_is_pinned_by_version_and_digest() -> None:
    recipe = (ROOT / "deploy" / "image" / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=\S+/python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", recipe, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", recipe, re.MULTILINE)) == {"${BASE}"}


def test_the_image_tunes_the_allocator() -> None:
    recipe = (ROOT / "deploy" / "image" / "Dockerfile").read_text()
    assert f"\nENV GLIBC_TUNABLES={TUNABLES}\n" in recipe.partition(" AS reelway\n")[2]


def test_hadolint_finds_nothing() -> None:
    result = run_tool("hadolint", "--failure-threshold", "style", ROOT / "deploy" / "image" / "Dockerfile")
    assert result.returncode == 0, result.stdout


def test_scripts_are_posix_shell() -> None:
    for script in (ROOT / "deploy" / "image").glob("*.sh"):
        subprocess.run(["sh", "-n", script], check=True)

"""What the pages say is so: defaults of settings, files, targets of make."""

import re
from pathlib import Path

import pytest

from deploy.local.settings import LocalSettings
from tests.unit.deploy.test_manifest_settings import SETTINGS

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", "CONTRIBUTING.md", "deploy/k8s/README.md")
LINKING = ("*.md", "docs/**/*.md", "deploy/**/*.md", "services/*/README.md")


def section(name: str) -> str:
    return (ROOT / "README.md").read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def defaults() -> list[tuple[str, str]]:
    """Each variable of the table and the default that it is said to have."""
    rows = re.findall(r"^\| (`[A-Z].*?) \| (.*?) \|", section("Configure"), re.MULTILINE)
    return [(name, told.partition(";")[0]) for names, told in rows for name in re.findall(r"`([A-Z_]+)`", names)]


def in_brackets() -> set[tuple[str, str]]:
    """The same of the pages about the services: `NAME` (50 GiB), `NAME` (100 000), `NAME` (7 days)."""
    pages = [*ROOT.glob("services/*/README.md"), *ROOT.glob("docs/*.md")]
    found = set()
    for name, number, unit in re.findall(
        r"`([A-Z_]+)` \((\d[\d ,]*?)( [KMGT]iB| days|)\)", "\n".join(page.read_text() for page in pages)
    ):
        plain = re.sub("[ ,]", "", number)
        found.add((name, str(int(plain) * 86_400) if unit == " days" else plain + unit))
    return found


@pytest.mark.parametrize(("name", "told"), sorted({*defaults(), *in_brackets()}))
def test_a_default_is_the_one_of_the_processes(monkeypatch: pytest.MonkeyPatch, name: str, told: str) -> None:
    field = name.lower()
    readers = [settings for settings in SETTINGS.values() if field in settings.model_fields]
    assert readers
    monkeypatch.setenv("S3_BUCKET", "any")
    for settings in readers:
        monkeypatch.delenv(name, raising=False)
        default = getattr(settings(), field)
        monkeypatch.setenv(name, "" if told == "none" else told)
        assert getattr(settings(), field) == default
        assert told != "none" or str(default) == ""


def test_the_table_of_make_run_names_its_settings() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?) \|", section("Run"), re.MULTILINE)
    named = {name.lower() for row in rows for name in re.findall(r"`([A-Z_0-9]+)`", row)}
    assert named - set(LocalSettings.model_fields) == set()


@pytest.mark.parametrize(
    "page", sorted(page.relative_to(ROOT) for pattern in LINKING for page in ROOT.glob(pattern)), ids=str
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        if target.startswith("https://"):
            continue
        path, _, place = target.partition("#")
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), target
        headings = re.findall(r"^#+ (.*)", found.read_text(), re.MULTILINE) if place else []
        assert not place or place in [heading.lower().replace(" ", "-") for heading in headings], target


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`|=\S+ )make ([a-z0-9-]+)", (ROOT / page).read_text(), re.MULTILINE)
    assert named
    assert set(named) <= targets


def test_the_pages_of_the_services_name_every_call() -> None:
    pages = "".join(page.read_text() for page in ROOT.glob("services/*/README.md"))
    calls = [call for proto in ROOT.glob("protos/**/*.proto") for call in re.findall(r"  rpc (\w+)", proto.read_text())]
    assert calls
    assert [call for call in calls if f"`{call}`" not in pages] == []

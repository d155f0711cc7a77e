"""Builds the protobuf and gRPC stubs into gen/, at install and on `make proto`; they are never committed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parent
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"


def generate(gen: Path = GEN) -> None:
    """Run protoc over every proto; raises CalledProcessError with protoc's own words on a bad one.

    What is there is replaced at once: a system that runs from this folder may be importing it.
    """
    package = importlib.util.find_spec("grpc_tools")
    if package is None or package.origin is None:
        raise RuntimeError("grpcio-tools is not installed")
    include = Path(package.origin).parent / "_proto"
    made, old = gen.with_name(f".{gen.name}.made"), gen.with_name(f".{gen.name}.old")
    for folder in (made, old):
        shutil.rmtree(folder, ignore_errors=True)
    made.mkdir(parents=True)
    # mypy-protobuf's plugins live beside the interpreter that runs us, which need not be on PATH.
    bin_dir = Path(sys.executable).parent
    subprocess.run(  # noqa: S603 - fixed arguments
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{PROTOS}",
            f"-I{include}",
            f"--plugin=protoc-gen-mypy={bin_dir / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={bin_dir / 'protoc-gen-mypy_grpc'}",
            f"--python_out={made}",
            f"--grpc_python_out={made}",
            f"--mypy_out={made}",
            f"--mypy_grpc_out={made}",
            *sorted(str(p) for p in PROTOS.rglob("*.proto")),
        ],
        check=True,
    )
    for package_dir in [made / "reelway", *(made / "reelway").glob("*/")]:
        (package_dir / "__init__.py").touch()
        (package_dir / "py.typed").touch()
    if gen.exists():
        gen.rename(old)
    made.rename(gen)
    shutil.rmtree(old, ignore_errors=True)


class CustomBuildHook(BuildHookInterface[Any]):
    """Generates before hatchling collects files, for wheels and editable installs alike."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling once a build."""
        generate()


class CustomMetadataHook(MetadataHookInterface):
    """Takes the package's dependencies from the one list there is."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling while it reads the project table."""
        lines = (ROOT / "requirements" / "base.in").read_text().splitlines()
        metadata["dependencies"] = [req for line in lines if (req := line.split("#")[0].strip())]


if __name__ == "__main__":
    generate()

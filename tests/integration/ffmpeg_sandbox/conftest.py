"""Folders of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ffmpeg.work_folder import WorkFolder, WorkRoot


@pytest.fixture(name="root")
async def _root(tmp_path: Path) -> AsyncIterator[WorkRoot]:
    root = WorkRoot(tmp_path / "work")
    yield root
    root.close()


@pytest.fixture(name="folder")
async def _folder(root: WorkRoot) -> WorkFolder:
    return root.create("job")

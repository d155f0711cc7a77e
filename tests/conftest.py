"""Fixtures that every test can ask for, and what the workers of one run share."""

import pytest

from deploy.local.ports import take_share

pytest_plugins = [
    "tests.support.clips",
    "tests.support.servers",
    "tests.support.foundation",
    "tests.support.system",
    "tests.support.speech",
]


def pytest_configure(config: pytest.Config) -> None:
    """Workers (`-n 2`) take ports of their own."""
    if worker := getattr(config, "workerinput", None):
        take_share(int(worker["workerid"].removeprefix("gw")) % worker["workercount"], worker["workercount"])

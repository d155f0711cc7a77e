"""Fixtures that every test can ask for, and what the workers of one run share."""

import pytest

from deploy.local import ports

pytest_plugins = [
    "tests.support.clips",
    "tests.support.servers",
    "tests.support.foundation",
    "tests.support.system",
    "tests.support.speech",
    "tests.support.joins",
]


def pytest_configure(config: pytest.Config) -> None:
    """Workers (`-n 2`) take ports of their own: what a test stops for a moment finds its port free."""
    if worker := getattr(config, "workerinput", None):
        number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        ports.taken.update(port for port in range(ports.LOWEST, 2**16) if (port - number) % count)

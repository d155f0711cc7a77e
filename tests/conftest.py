"""Fixtures that every test can ask for, and what the workers of one run share."""

import gc
import os

import hypothesis
import pytest

from deploy.local.ports import choose_from
from services.common import grpc_engine

pytest_plugins = [
    "tests.support.clips",
    "tests.support.servers",
    "tests.support.foundation",
    "tests.support.system",
    "tests.support.speech",
    "tests.support.joins",
]


LANES = range(20_000, 32_768)
FOR_SYSTEMS = 1000
"""Of a worker's ports, how many are left to the systems that its tests start by `make run`."""


def pytest_configure(config: pytest.Config) -> None:
    """Workers (`-n 2`) and the systems they start take ports of their own.

    What a test stops for a moment finds its port free, and what is to listen somewhere later finds nobody there.
    """
    # An example on which the machine did something else for 0.2 s is none that fails.
    hypothesis.settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("any machine")
    # The tests close all channels there are, many times, and live on.
    grpc_engine.keep()
    # A profile of whoever runs the tests leads elsewhere, and the authorities of their store take each client 0.1 s.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    # Hundreds of thousands of objects live here: the collector's default goes through them for every 700 new ones.
    gc.set_threshold(20_000)
    worker = getattr(config, "workerinput", {"workerid": "gw0", "workercount": 1})
    number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    width = len(LANES) // count
    lane = LANES[number * width : (number + 1) * width]
    choose_from(lane[FOR_SYSTEMS:])
    os.environ["FREE_PORTS"] = f"{lane.start}-{lane[FOR_SYSTEMS - 1]}"


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()

"""Fixtures that every test can ask for."""

pytest_plugins = [
    "tests.support.clips",
    "tests.support.servers",
    "tests.support.foundation",
    "tests.support.system",
    "tests.support.speech",
]

"""What a line of the log may do to whoever reads it."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from services.common import logs
from services.common.caller import NOBODY, Caller, set_caller


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("logger", [structlog.stdlib.get_logger("test"), logging.getLogger("test")])
def test_a_terminal_is_told_nothing(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway", "INFO", "console")
    title, red, bell, backwards = "\x1b]0;title\x07", "\x1b[31m", "\x9b31m", "\u202e"
    logger.info(f"event{title}")
    logs.get_logger("test").info("request", path=f"/é{title}{red}{bell}{backwards}")
    said = capsys.readouterr().err
    assert "".join(letter for letter in said if not letter.isprintable()) == "\n\n"
    assert r"path=/é\x1b]0;title\x07\x1b[31m\x9b31m\u202e" in said


def test_a_traceback_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway", "INFO", "console")
    try:
        raise ValueError("\x1b[31mred")
    except ValueError:
        logs.get_logger("test").exception("it failed")
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == r"ValueError: \x1b[31mred"


def test_json_has_the_letters_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("gateway", "INFO", "json")
    logs.get_logger("test").info("request", path="/\x1b[31m")
    assert json.loads(capsys.readouterr().err)["path"] == "/\x1b[31m"


@pytest.mark.parametrize("logger", [logs.get_logger("test"), logging.getLogger("test")], ids=["ours", "a library's"])
def test_a_line_says_of_whom_it_is_when_and_of_which_request(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("gateway", "INFO", "json")
    set_caller(Caller(request_id="abc"))
    try:
        logger.warning("it failed")
    finally:
        set_caller(NOBODY)
    line = json.loads(capsys.readouterr().err)
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() == timedelta()
    assert line == {
        "process": "gateway",
        "level": "warning",
        "logger": "test",
        "event": "it failed",
        "request_id": "abc",
    }


def test_a_reader_that_went_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """gRPC's library calls it one where a stream is cancelled while a message of it is written."""
    logs.configure("stream", "INFO", "json")
    library = logging.getLogger("grpc._cython.cygrpc")
    library.error("ExecuteBatchError raised in core by servicer method [%s]", "/reelway.v1.StreamService/Read")
    library.error("Unexpected [%s] raised by servicer method", "KeyError")
    assert json.loads(capsys.readouterr().err)["event"] == "Unexpected [KeyError] raised by servicer method"


@pytest.mark.parametrize("library", ["grpc._cython.cygrpc", "redis.asyncio.connection", "botocore.hooks"])
def test_of_our_libraries_debug_shows_what_went_wrong_alone(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They have a line for each call and connection, in which ours are lost."""
    logs.configure("stream", "DEBUG", "json")
    logging.getLogger(library).debug("[_cygrpc] Loaded running loop: id(loop)=1")
    logging.getLogger(library).warning("broken")
    logs.get_logger("test").debug("rpc")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["broken", "rpc"]

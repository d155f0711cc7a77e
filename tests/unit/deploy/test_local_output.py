"""What `make run` prints when nobody can read it any more."""

import errno
import io
import sys

import pytest

from deploy.local.output import Output


class Lost(io.StringIO):
    """A terminal that was closed, or a file on a full disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.tries = 0

    def write(self, _: str, /) -> int:
        self.tries += 1
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("I/O operation on closed file."),
    ],
    ids=lambda error: type(error).__name__ + str(getattr(error, "errno", "")),
)
def test_it_goes_on_without_words_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    lost = Lost(error)
    monkeypatch.setattr(sys, "stdout", lost)
    output = Output(7, None)
    for _ in range(3):
        output.say("ready")
    assert lost.tries == 1


def test_it_writes_what_the_terminal_has_no_letter_for_as_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    output = Output(7, None)
    output.say("ready: /data/vidéos")
    output.say("stopped")
    assert written.getvalue() == b"reelway | ready: /data/vid?os\nreelway | stopped\n"


def test_it_goes_on_where_there_was_never_anything_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it where descriptor 1 is closed
    Output(7, None).say("ready")

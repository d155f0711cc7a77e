"""Placeholders: the only files that a command can name.

A placeholder is a whole argument (`in_1`) or stands in braces (`{{in_1}}`, `{{ in_1 }}`); it is never a part of a
word, so `in_1` is not in `in_10`. A command is split as a shell would split it, and no shell ever sees it.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from services.ffmpeg.refusal import CommandRefused

_BRACES = re.compile(r"\{\{\s*([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*\}\}")
_WHOLE_BRACES = re.compile(r"\{\{([A-Za-z0-9_][A-Za-z0-9_.-]*)\}\}")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
# A key of S3 and a name in Content-Disposition: no separator, no leading dot or dash, nothing that ends blank.
_OUTPUT_NAME = re.compile(r"\w[\w. ()+,@-]{0,126}")
_PLAIN_NAME = (
    "at most 127 letters, digits, blanks and '_.()+,@-' (255 bytes), the first a letter, a digit or '_', "
    "without '..', and without a blank or dot at the end"
)
_ESCAPE = r"\\(?:\r?\n|.)"
_ESCAPED = re.compile(_ESCAPE, re.DOTALL)
_QUOTED_OR_ESCAPED = re.compile(rf"""'[^']*'|"(?:[^"\\]|\\.)*"|{_ESCAPE}""", re.DOTALL)


@dataclass(frozen=True)
class FileRef:
    """A file of the job that an argument names: `in/0.mp4`, `out/0.mp4`."""

    placeholder: str
    path: str
    """Relative to the job's folder; chosen by us, never by the client."""


def split_command(command: str, max_chars: int) -> list[str]:
    """The arguments of `command`; a leading `ffmpeg` is dropped.

    Raises CommandRefused for an unbalanced quote, a control character or a command that is too long.
    """
    if len(command) > max_chars:
        raise CommandRefused("ffmpeg_command", f"longer than {max_chars} characters")
    joined = _QUOTED_OR_ESCAPED.sub(_without_line_breaks, command)
    try:
        joined.encode("utf-8")
        words = shlex.split(_BRACES.sub(r"{{\1}}", joined))
    except UnicodeEncodeError:
        raise CommandRefused("ffmpeg_command", "not valid Unicode") from None
    except ValueError:
        raise CommandRefused("ffmpeg_command", "a quote or backslash is not closed") from None
    for word in words:
        if any((ord(char) < 32 and char not in "\n\t") or ord(char) == 127 for char in word):
            raise CommandRefused(word, "contains a control character")
    return words[1:] if words[:1] == ["ffmpeg"] else words


def _without_line_breaks(match: re.Match[str]) -> str:
    """As a shell reads it: a backslash takes away the end of a line, but not in single quotes."""
    text = match[0]
    if text.startswith('"'):
        return _ESCAPED.sub(_without_line_breaks, text)
    return "" if text.startswith("\\") and text.endswith("\n") else text


def placeholder_of(word: str, known: Mapping[str, object]) -> str | None:
    """The key that `word` is: bare where it is known, in braces in any case; None where it is something else."""
    if match := _WHOLE_BRACES.fullmatch(word):
        return match[1]
    return word if word in known else None


def braced(word: str) -> str | None:
    """The first placeholder in braces inside `word`, for refusing it where no file can stand."""
    match = _BRACES.search(word)
    return match[1] if match else None


def extension_of(name: str) -> str:
    """The lower-case extension of a file name without its dot; empty where there is none."""
    stem, _, extension = name.rpartition(".")
    return extension.lower() if stem else ""


def check_keys(inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Refuse keys that could be taken for something else, and keys that are both."""
    for key in (*inputs, *outputs):
        if not _KEY.fullmatch(key):
            raise CommandRefused(key, "a placeholder is letters, digits, '_', '.' and '-', at most 64")
    if both := sorted(set(inputs) & set(outputs)):
        raise CommandRefused(both[0], "is both an input and an output")


def check_output_names(outputs: Mapping[str, str]) -> None:
    """Refuse names that are not plain file names, and two outputs of one name."""
    for key, name in outputs.items():
        plain = _OUTPUT_NAME.fullmatch(name) and name[-1] not in " ." and ".." not in name
        if not plain or len(name.encode()) > 255:
            raise CommandRefused(key, f"the output name '{name[:30]}' is not a plain file name: {_PLAIN_NAME}")
    if repeated := sorted(name for name, count in Counter(outputs.values()).items() if count > 1):
        raise CommandRefused(repeated[0], "two outputs have this name")

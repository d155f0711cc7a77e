"""What a person is told when ffmpeg fails: its own last words, without what is ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

_MAX_CHARS = 600
_MAX_LINES = 4
# A client can make ffmpeg say a line of any length, and the patterns below are quadratic at worst.
_MAX_LINE_CHARS = 1000
_MAX_TOLD = 50
_LEVEL = re.compile(r"\[(error|fatal|panic)\] ?")
_ANY_LEVEL = re.compile(r"\[(?:quiet|panic|fatal|error|warning|info|verbose|debug|trace)\] ?")
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_URL = re.compile(r"\b([a-z][a-z0-9+.-]{1,15}://)([^\s'\"?#]*)(?:[?#][^\s'\"]*)?", re.IGNORECASE)
_USERINFO = re.compile(r"^[^/@\s]*@")
# Each part of ffmpeg through which a failure passes says so behind its cause, which more of them would push out.
_ECHO = re.compile(
    r"(?:\[[^\]]*\] )*"
    r"(?:Error reinitializing filters!|Error initializing filters$|Failed to inject frame"
    r"|Error while processing the decoded data|Error sending frames to consumers|Error marking filters as finished"
    r"|Error opening (?:in|out)put files:|Task finished with error code|Terminating thread"
    r"|Could not open encoder before EOF|Nothing was written into output file)"
)
# What is listed behind it is ours, long, and no reason; a line may end before it does.
_NOT_LISTED = re.compile(r"Format not on whitelist '[^']*'?")
_PATH = re.compile(r"(?:file:)?(?<![\w.])/(?:[\w.+-]+/)*[\w.+-]*\w")


def last_words(stderr: bytes, names: Mapping[str, str]) -> str:
    """The last lines in which ffmpeg reported an error, at most 600 characters; empty where it said nothing.

    Lines that only say that a failure was passed on are left out, unless there are no others.
    `stderr` was written with `-loglevel level+…`. `names` maps local paths to what the client calls them; other local
    paths are left out, and so are queries and user names of addresses, which may hold secrets.
    """
    lines = stderr.decode("utf-8", "replace").splitlines()
    told = [line for line in lines if _LEVEL.search(line)] or [line for line in lines if line.strip()]
    kept: list[str] = []
    for line in told[-_MAX_TOLD:]:
        reason = _NOT_LISTED.sub("this format is not allowed here", line[:_MAX_LINE_CHARS])
        clean = redacted(_ANY_LEVEL.sub("", reason), names)
        if clean and clean not in kept:
            kept.append(clean)
    causes = [line for line in kept if not _ECHO.match(line)] or kept
    return "\n".join(causes[-_MAX_LINES:])[-_MAX_CHARS:].strip()


def redacted(text: str, names: Mapping[str, str]) -> str:
    """`text` without local paths, queries of addresses, memory addresses and control characters."""
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(f"file:{path}", names[path]).replace(path, names[path])
    text = _ADDRESS.sub("", text)
    text = _URL.sub(lambda match: match[1] + _USERINFO.sub("", match[2]), text)
    text = _PATH.sub(_hide, text)
    return "".join(char if char.isprintable() else " " for char in text).strip()


def _hide(match: re.Match[str]) -> str:
    # Behind `://` it is an address's own path.
    start = match.start()
    return match[0] if match.string[max(0, start - 2) : start].endswith(":/") else "…"

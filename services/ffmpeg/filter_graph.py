"""Reads a filter graph as libavfilter does, and writes it back in one unmistakable way.

The grammar is that of avfilter_graph_parse2 (libavfilter/graphparser.c) over av_get_token (libavutil/avstring.c) and
av_opt_get_key_value (libavutil/opt.c). What runs is the text written here, with every option by its name, every
special character escaped: a difference between this reader and ffmpeg's can't smuggle anything in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.ffmpeg.placeholders import FileRef
from services.ffmpeg.refusal import CommandRefused

_WHITESPACE = " \n\t\r"
_KEY_CHARS = re.compile(r"[A-Za-z0-9_/.-]*")
_LABEL = re.compile(r"[\w .:#?+-]{1,64}")
_NAME = re.compile(r"([a-z0-9_]{1,32})(@[A-Za-z0-9_]{1,32})?")
_SCALER_FLAGS = re.compile(r"sws_flags=([a-z0-9_+=-]{1,128});")
_MAX_DEPTH = 64
# av_expr has loops and root search (libavutil/eval.c), and passes over whatever stands between a name and its bracket.
_LOOP = re.compile(r"\b(while|root|taylor)(?![A-Za-z0-9_])[^(]*\(")
# av_expr leaves out every blank before it reads, and drawtext unescapes what it evaluates: `wh ile(` is a loop, too.
_LEFT_OUT = re.compile(r"[\s\\']+")

Parts = tuple[str | FileRef, ...]


@dataclass(frozen=True)
class RawOption:
    """One option as written: without a key where it is told by its position."""

    key: str | None
    value: str


@dataclass(frozen=True)
class RawFilter:
    """One filter as written."""

    name: str
    instance: str
    """`@name`, or empty."""
    options: tuple[RawOption, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class RawGraph:
    """Chains of filters, with the scaler flags that may stand before them."""

    scaler_flags: str
    chains: tuple[tuple[RawFilter, ...], ...]


def get_token(text: str, at: int, stops: str) -> tuple[str, int]:
    """av_get_token: the unescaped word at `at` and the index of the stop character (or end) behind it."""
    while at < len(text) and text[at] in _WHITESPACE:
        at += 1
    out: list[str] = []
    kept = 0  # trailing blanks behind this length are dropped; escaped and quoted ones stay
    while at < len(text) and text[at] not in stops:
        char = text[at]
        at += 1
        if char == "\\" and at < len(text):
            out.append(text[at])
            at += 1
            kept = len(out)
        elif char == "'":
            end = text.find("'", at)
            closed = end >= 0
            out.extend(text[at : end if closed else len(text)])
            at = end + 1 if closed else len(text)
            if closed:
                kept = len(out)
        else:
            out.append(char)
    while len(out) > kept and out[-1] in _WHITESPACE:
        out.pop()
    return "".join(out), at


def parse_options(text: str) -> tuple[RawOption, ...]:
    """The options behind a filter's `=`, once unescaped by the graph level."""
    options: list[RawOption] = []
    at = 0
    while at < len(text):
        start = at
        while at < len(text) and text[at] in _WHITESPACE:
            at += 1
        match = _KEY_CHARS.match(text, at)
        word = match[0] if match else ""
        at += len(word)
        while at < len(text) and text[at] in _WHITESPACE:
            at += 1
        key: str | None = None
        if at < len(text) and text[at] == "=":
            key = word
            at += 1
        else:
            at = start
        value, at = get_token(text, at, ":")
        options.append(RawOption(key, value))
        at += 1
    return tuple(options)


def parse_graph(text: str, option: str) -> RawGraph:
    """The graph `text` that `option` gave; raises CommandRefused where ffmpeg would not read it either."""
    return _Reader(text, option).graph()


class _Reader:
    """Walks over one graph."""

    def __init__(self, text: str, option: str) -> None:
        self._text = text
        self._at = 0
        self._option = option

    def graph(self) -> RawGraph:
        flags = ""
        self._blanks()
        if match := _SCALER_FLAGS.match(self._text, self._at):
            flags = match[1]
            self._at = match.end()
        chains: list[tuple[RawFilter, ...]] = []
        chain: list[RawFilter] = []
        while True:
            chain.append(self._filter())
            separator = self._peek()
            self._at += 1
            if separator == ",":
                continue
            chains.append(tuple(chain))
            chain = []
            if separator == ";":
                self._blanks()
                if not self._peek():  # one trailing separator is read as the end
                    break
                continue
            if separator:
                raise self._wrong(f"unexpected '{separator}'")
            break
        return RawGraph(flags, tuple(chains))

    def _filter(self) -> RawFilter:
        inputs = self._labels()
        word, self._at = get_token(self._text, self._at, "=,;[")
        match = _NAME.fullmatch(word)
        if not match:
            raise self._wrong(f"'{word[:40]}' is not a filter name" if word else "a filter name is missing")
        options: tuple[RawOption, ...] = ()
        if self._peek() == "=":
            raw, self._at = get_token(self._text, self._at + 1, "[],;")
            options = parse_options(raw)
        outputs = self._labels()
        return RawFilter(match[1], match[2] or "", options, inputs, outputs)

    def _labels(self) -> tuple[str, ...]:
        labels: list[str] = []
        self._blanks()
        while self._peek() == "[":
            label, self._at = get_token(self._text, self._at + 1, "]")
            if self._peek() != "]":
                raise self._wrong("a '[' is not closed")
            if not _LABEL.fullmatch(label):
                raise self._wrong(f"'[{label[:40]}]' is not a plain label")
            self._at += 1
            labels.append(label)
            self._blanks()
        return tuple(labels)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _blanks(self) -> None:
        while self._peek() and self._peek() in _WHITESPACE:
            self._at += 1

    def _wrong(self, why: str) -> CommandRefused:
        return CommandRefused(self._option, f"the filter graph cannot be read: {why}")


def check_expression(value: str, subject: str) -> None:
    """Refuse an expression that could run for ever, or whose brackets could take a recursive parser's whole stack.

    Those in a file that drawtext reads are not looked at: the job's clock ends them. Of a text with `%{` all counts, so
    that one with "while" and a bracket behind it is refused, too.
    """
    depth = 0
    for char in value:
        depth += (char == "(") - (char == ")")
        if depth > _MAX_DEPTH:
            raise CommandRefused(subject, f"brackets are nested deeper than {_MAX_DEPTH}")
    if loop := _LOOP.search(value) or _LOOP.search(_LEFT_OUT.sub("", value)):
        raise CommandRefused(subject, f"'{loop[1]}(…' in an expression could run for ever")


def escape_value(value: str) -> str:
    """`value` as an option's value inside a graph: escaped for the options, then for the graph."""
    inner = re.sub(r"([\\':\s])", r"\\\1", value)
    return re.sub(r"([\\'\[\],;\s])", r"\\\1", inner)

"""Decides whether a client's ffmpeg command may run, and as what.

Everything is refused that is not known: options with their arity, codecs, formats, filters and their options. Files
are named by declared placeholders alone. The sandbox behind it would hold a command that got past; this layer is there
so that it never has to, and so that a refusal can say what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.ffmpeg import placeholders
from services.ffmpeg.filter_graph import Parts, RawFilter, parse_graph
from services.ffmpeg.filter_table import CheckedGraph, check_graph
from services.ffmpeg.format_table import (
    EXTENSIONS,
    FORMAT_WHITELIST,
    INPUT_EXTENSIONS,
    MANIFESTS,
    SEVERAL_FILES,
    words,
)
from services.ffmpeg.graph_length import Chains
from services.ffmpeg.job import encode_spec
from services.ffmpeg.limits import Limits
from services.ffmpeg.option_table import OPTIONS, REFUSED_BECAUSE, SPECIFIER, OptionRule, Value, Where
from services.ffmpeg.option_values import checked_value
from services.ffmpeg.placeholders import FileRef
from services.ffmpeg.plan import Plan, PlannedInput, PlannedOutput
from services.ffmpeg.refusal import CommandRefused
from services.ffmpeg.timeline import InputSpan, OutputSpan, Timeline

_DROPPED = (Value.IGNORED, Value.IGNORED_SWITCH)
_STOPS = words("t to frames vframes aframes dframes fs")
_KIB = 1024
# Linux takes 128 KiB in one argument (MAX_ARG_STRLEN), and in all of them a quarter of the stack's limit: of 8 MiB, 2.
_ARGUMENT_KIB, _ARGUMENTS_KIB = 127, 512
# More characters than the path of a job's folder has, which the worker alone knows.
_FOLDER_CHARS = 256


def plan(
    ffmpeg_command: str,
    input_files: Mapping[str, str],
    output_files: Mapping[str, str],
    limits: Limits | None = None,
) -> Plan:
    """What would run.

    `input_files` and `output_files` map placeholders to URLs and to plain file names. Raises CommandRefused (HTTP 400)
    naming the option, filter or placeholder and why. Reads nothing but its arguments.
    """
    limits = limits or Limits()
    arguments = placeholders.split_command(ffmpeg_command, limits.max_command_chars)
    if not arguments:
        raise CommandRefused("", "No ffmpeg_command provided")
    if not output_files:
        raise CommandRefused("", "No output_files provided")
    # Each of them has bounds of its own, but too large ones for thousands of records that are kept for weeks.
    spec = {"command": ffmpeg_command, "input_files": dict(input_files), "output_files": dict(output_files)}
    if len(encode_spec(spec)) > limits.max_task_bytes:
        raise CommandRefused("", f"command, addresses and names take more than {limits.max_task_bytes} bytes of JSON")
    placeholders.check_keys(input_files, output_files)
    placeholders.check_output_names(output_files)
    return _Reader(arguments, input_files, output_files, limits).read()


@dataclass(frozen=True)
class _Option:
    """An option as it will run."""

    rule: OptionRule
    word: str
    """`-b:v`."""
    arguments: tuple[Parts, ...]
    text: str = ""
    """The value as the client wrote it."""


@dataclass
class _Group:
    """The options that were gathered for the next file."""

    options: list[_Option] = field(default_factory=list)
    endless: bool = False
    """It stands before a synthetic source that has no end."""
    generated: Chains = ()
    """The graph of the synthetic source that it stands before."""

    @property
    def never_ends(self) -> bool:
        """The input repeats, or is generated, for ever."""
        return self.endless or (self.value("stream_loop") or "0").startswith("-") or self.value("loop") == "1"

    @property
    def maps(self) -> tuple[str, ...]:
        """The values of -map."""
        return tuple(option.text for option in self.options if option.rule.name == "map")

    def value(self, name: str) -> str | None:
        """The last value of an option, by its name without a specifier."""
        return next((option.text for option in reversed(self.options) if option.rule.name == name), None)

    def has(self, names: frozenset[str]) -> bool:
        return any(option.rule.name in names for option in self.options)

    def arguments(self) -> list[Parts]:
        return [part for option in self.options for part in option.arguments]


class _Reader:
    """Reads one command from left to right, as ffmpeg does (split_commandline in cmdutils.c)."""

    def __init__(self, words: list[str], inputs: Mapping[str, str], outputs: Mapping[str, str], limits: Limits) -> None:
        self._words = words
        self._input_urls = inputs
        self._output_names = outputs
        self._limits = limits
        self._globals = _Group()
        self._group = _Group()
        self._input_groups: list[tuple[_Group, Parts]] = []
        self._output_groups: list[tuple[_Group, PlannedOutput]] = []
        self._inputs: dict[str, PlannedInput] = {}
        self._chains: list[tuple[RawFilter, ...]] = []
        self._filters = 0
        self._source_filters = 0

    def read(self) -> Plan:
        at = 0
        while at < len(self._words):
            word = self._words[at]
            at += 1
            if word == "-i":
                if at >= len(self._words):
                    raise CommandRefused("-i", "a value is missing")
                self._take_input(self._words[at])
                at += 1
            elif word.startswith("-") and word != "-":
                at += self._take_option(word, self._words[at] if at < len(self._words) else None)
            else:
                self._take_output(word)
        self._check_whole()
        arguments = tuple(self._arguments())
        _check_sizes(arguments)
        return Plan(
            arguments=arguments,
            inputs=tuple(self._inputs.values()),
            outputs=tuple(output for _, output in self._output_groups),
            limits=self._limits,
            timeline=self._timeline(),
        )

    def _take_option(self, word: str, following: str | None) -> int:
        """Read an option; returns how many words behind it belong to it."""
        name, colon, rest = word[1:].partition(":")
        rule = OPTIONS.get(name)
        if rule is None:
            raise CommandRefused(word, REFUSED_BECAUSE.get(name.lstrip("-/"), "this option is not allowed"))
        if colon and not (rule.specifier and SPECIFIER.fullmatch(colon + rest)):
            raise CommandRefused(word, "this stream specifier is not understood")
        if rule.arity == 0:
            if rule.value not in _DROPPED:
                self._keep(_Option(rule, word, ((word,),)))
            return 0
        if following is None:
            raise CommandRefused(word, "a value is missing")
        if rule.value is Value.GRAPH:
            checked = self._graph(word, following)
            value = checked.parts
            if rule.where is Where.GLOBAL:
                self._chains += checked.chains
        elif rule.value in _DROPPED:
            return 1
        else:
            value = (following,)
        self._keep(_Option(rule, word, ((word,), value), following))
        return 1

    def _keep(self, option: _Option) -> None:
        # Whether it is an input's or an output's is known once its file is: _close_group checks the values.
        (self._globals if option.rule.where is Where.GLOBAL else self._group).options.append(option)

    def _take_input(self, value: str) -> None:
        if len(self._input_groups) >= self._limits.max_inputs:
            raise CommandRefused("-i", f"more than {self._limits.max_inputs} inputs")
        group = self._close_group(Where.INPUT)
        if group.value("f") == "lavfi":
            checked = self._graph("-f lavfi -i", value)
            source: Parts = checked.parts
            group.endless, group.generated = checked.endless, checked.chains
            self._source_filters += checked.filters
        else:
            key = placeholders.placeholder_of(value, self._input_urls)
            if key is None:
                raise CommandRefused(
                    f"-i {value}", "an input is a declared placeholder such as in_1, or a source of -f lavfi"
                )
            source = ("file:", self._input_ref(key, read_by_filter=False))
        self._input_groups.append((group, source))

    def _take_output(self, word: str) -> None:
        key = placeholders.placeholder_of(word, self._output_names)
        if key is None or key not in self._output_names:
            if word in self._input_urls or key in self._input_urls:
                raise CommandRefused(word, "is an input; an output needs a name in output_files")
            raise CommandRefused(word, "an output is a declared placeholder such as out_1")
        if any(key == used.placeholder for _, used in self._output_groups):
            raise CommandRefused(key, "this output is written twice")
        if len(self._output_groups) >= self._limits.max_outputs:
            raise CommandRefused(key, f"more than {self._limits.max_outputs} outputs")
        group = self._close_group(Where.OUTPUT)
        name = self._output_names[key]
        extension = placeholders.extension_of(name)
        if extension not in EXTENSIONS and group.value("f") is None:
            unknown = "the format of this name is not known; say which with -f"
            raise CommandRefused(name, SEVERAL_FILES if extension in MANIFESTS else unknown)
        suffix = f".{extension}" if extension in EXTENSIONS else ""
        self._output_groups.append((group, PlannedOutput(key, name, f"out/{len(self._output_groups)}{suffix}")))

    def _close_group(self, where: Where) -> _Group:
        group, self._group = self._group, _Group()
        for option in group.options:
            if not option.rule.where & where:
                place = "an input" if where is Where.INPUT else "an output"
                raise CommandRefused(option.word, f"this option cannot stand before {place}")
        group.options = [self._checked(option, is_input=where is Where.INPUT) for option in group.options]
        return group

    def _checked(self, option: _Option, *, is_input: bool) -> _Option:
        if option.rule.arity == 0 or option.rule.value is Value.GRAPH:
            return option
        value = checked_value(option.rule, option.word, option.text, is_input=is_input, limits=self._limits)
        return replace(option, arguments=((option.word,), (value,)))

    def _graph(self, option: str, text: str) -> CheckedGraph:
        checked = check_graph(parse_graph(text, option), self._resolve, self._limits)
        self._filters += checked.filters
        if self._filters > self._limits.max_filters:
            raise CommandRefused(option, f"more than {self._limits.max_filters} filters in all")
        return checked

    def _resolve(self, value: str, subject: str, as_media: bool) -> FileRef | None:
        key = placeholders.placeholder_of(value, self._input_urls)
        if key is None:
            return None
        if key not in self._input_urls:
            raise CommandRefused(subject, f"the placeholder {{{{{key}}}}} has no file in input_files")
        return self._input_ref(key, read_by_filter=as_media)

    def _input_ref(self, key: str, *, read_by_filter: bool) -> FileRef:
        url = self._input_urls.get(key)
        if url is None:
            raise CommandRefused(key, "this placeholder has no file in input_files")
        known = self._inputs.get(key)
        if known is None:
            if len(self._inputs) >= self._limits.max_inputs:
                raise CommandRefused(key, f"more than {self._limits.max_inputs} inputs")
            extension = placeholders.extension_of(url.split("?", 1)[0].split("#", 1)[0].rsplit("/", 1)[-1])
            suffix = f".{extension}" if extension in INPUT_EXTENSIONS else ""
            known = PlannedInput(key, url, f"in/{len(self._inputs)}{suffix}", read_by_filter)
        elif read_by_filter:
            known = replace(known, read_by_filter=True)
        self._inputs[key] = known
        return FileRef(key, known.path)

    def _check_whole(self) -> None:
        if self._group.options:
            raise CommandRefused(self._group.options[0].word, "no file follows this option")
        self._globals.options = [self._checked(option, is_input=False) for option in self._globals.options]
        if unused := [key for key in self._input_urls if key not in self._inputs]:
            raise CommandRefused(unused[0], "this input is not named by the command")
        written = {output.placeholder for _, output in self._output_groups}
        if missing := [key for key in self._output_names if key not in written]:
            raise CommandRefused(missing[0], "this output is not named by the command")
        self._check_end()

    def _check_end(self) -> None:
        """Refuse what surely never ends; where a filter graph could end it, the wall clock is the judge."""
        inputs = [group for group, _ in self._input_groups]
        endless = [number for number, group in enumerate(inputs) if group.never_ends and not group.has(_STOPS)]
        if not endless or self._filters > self._source_filters:
            return
        # -shortest waits for the first input to end.
        some_end = len(endless) < len(inputs)
        stops = _STOPS | {"shortest"} if some_end else _STOPS
        if any(not group.has(stops) for group, _ in self._output_groups):
            raise CommandRefused(
                f"-i number {endless[0]}", f"this input never ends: add -t{' or -shortest' if some_end else ''}"
            )

    def _timeline(self) -> Timeline:
        return Timeline(
            inputs=tuple(
                InputSpan.of(group.value, endless=group.never_ends, generated=group.generated)
                for group, _ in self._input_groups
            ),
            outputs=tuple(OutputSpan.of(group.value, group.maps) for group, _ in self._output_groups),
            chains=tuple(self._chains),
        )

    def _arguments(self) -> list[Parts]:
        threads = str(self._limits.threads)
        pixels = str(self._limits.max_pixels)
        # Metadata comes without packets, which is what ffmpeg calls empty; a file of no bytes is refused in any case.
        is_metadata = any(_format(group, output) == "ffmetadata" for group, output in self._output_groups)
        arguments: list[Parts] = [] if is_metadata else [("-abort_on",), ("empty_output",)]
        for name in ("filter_threads", "filter_complex_threads"):
            if self._globals.value(name) is None:
                arguments += [(f"-{name}",), (threads,)]
        arguments += self._globals.arguments()
        for group, source in self._input_groups:
            formats = "lavfi" if group.value("f") == "lavfi" else FORMAT_WHITELIST
            arguments += [("-threads",), (threads,), *group.arguments()]
            arguments += [
                ("-protocol_whitelist",),
                ("file",),
                ("-format_whitelist",),
                (formats,),
                ("-max_pixels",),
                (pixels,),
            ]
            arguments += [("-i",), source]
        for group, output in self._output_groups:
            arguments += [("-threads",), (threads,), *group.arguments()]
            if group.value("f") is None:
                arguments += [("-f",), (_format(group, output),)]
            arguments += [("-max_pixels",), (pixels,), ("file:", FileRef(output.placeholder, output.path))]
        return arguments


def _format(group: _Group, output: PlannedOutput) -> str:
    return group.value("f") or EXTENSIONS[placeholders.extension_of(output.name)]


def _check_sizes(arguments: Sequence[Parts]) -> None:
    """Refuse what the kernel would: a command of few characters grows where it is written out with every escape."""
    total = 0
    for number, parts in enumerate(arguments):
        size = sum(
            len(part.encode()) if isinstance(part, str) else _FOLDER_CHARS + 1 + len(part.path) for part in parts
        )
        if size > _ARGUMENT_KIB * _KIB:
            # Only a graph grows like this, and it stands behind its option.
            option = "".join(part for part in arguments[number - 1] if isinstance(part, str))
            raise CommandRefused(option, _too_long(_ARGUMENT_KIB))
        total += size + 9  # its zero, and the pointer to it
    if total > _ARGUMENTS_KIB * _KIB:
        raise CommandRefused("ffmpeg_command", _too_long(_ARGUMENTS_KIB))


def _too_long(kib: int) -> str:
    return f"longer than {kib} KiB when it is written out in full"

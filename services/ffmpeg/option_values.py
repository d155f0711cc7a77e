"""What an option's value may be, kind by kind. Every check raises CommandRefused naming the option."""

from __future__ import annotations

import re

from services.ffmpeg import format_table
from services.ffmpeg.digits import whole_number
from services.ffmpeg.filter_graph import check_expression
from services.ffmpeg.filter_table import check_size
from services.ffmpeg.limits import Limits
from services.ffmpeg.option_table import OptionRule, Value
from services.ffmpeg.placeholders import braced
from services.ffmpeg.refusal import CommandRefused

_PLAIN = re.compile(r"[A-Za-z0-9_.,:;+%|@#() -]{1,512}")
_RATIO = re.compile(r"\d+(?:\.\d+)?/\d+(?:\.\d+)?", re.ASCII)
_MAP = re.compile(r"-?\d+(?::[A-Za-z0-9_#][\w#.: -]*)?\??|\[[\w .:#?+-]{1,64}\]", re.ASCII)
_KEY_FRAMES = re.compile(r"[\w .:,;+*/()<>=!-]{1,2048}", re.ASCII)
_PARAM = re.compile(r"[A-Za-z0-9_.,+|()-]*")
_THREAD_PARAMS = frozenset({"threads", "lookahead-threads", "frame-threads", "pools", "lp"})
_BITSTREAM = re.compile(r"([a-z0-9_]+)(?:=([\w.:=+*/|()-]*))?", re.ASCII)
_TIME = re.compile(r"(?:(?:([0-9]{1,9}):)?([0-9]{1,9}):)?([0-9]{1,18}(?:\.[0-9]*)?)(s|ms|us)?")
# Without pass1 and pass2, with which libx264 and libxvid write and read files of names of their own.
_CODEC_FLAGS = format_table.words("""
    unaligned mv4 qpel loop qscale gray psnr truncated drop_changed ildct low_delay global_header bitexact aic ilme
    cgop output_corrupt
""")
_MAX_TEXT = 4096
_MAX_QUEUE = 65536
_MAX_THREADS = 16
_WHY_NO_FORMAT = {
    "null": "makes no file",
    "lavfi": "is for inputs",
    **dict.fromkeys(
        format_table.words("segment ssegment stream_segment tee webm_chunk hds smoothstreaming"),
        "writes files that were not declared",
    ),
    **dict.fromkeys(format_table.words("rtp rtsp sap rtp_mpegts sdp"), "opens a network socket"),
    **dict.fromkeys(format_table.words("hls applehttp dash imf"), "reads or writes files that were not declared"),
    "concat": "reads files that were not declared; use the filter concat",
}


def checked_value(rule: OptionRule, option: str, value: str, *, is_input: bool, limits: Limits) -> str:
    """`value` of `option` (as written, with its dash) as it will run; graphs have their own reader.

    A number of threads is cut to what a job may have: it changes nothing but the speed. All else runs as written.
    """
    if rule.value is Value.THREADS:
        return _threads(option, value, limits)
    _check(rule, option, value, is_input, limits)
    return value


def _check(rule: OptionRule, option: str, value: str, is_input: bool, limits: Limits) -> None:
    if stray := braced(value):
        raise CommandRefused(option, f"the placeholder {{{{{stray}}}}} cannot stand here")
    match rule.value:
        case Value.COUNT:
            if (count := whole_number(value)) is None or count > _MAX_QUEUE:
                raise CommandRefused(option, f"a number up to {_MAX_QUEUE}")
        case Value.TEXT:
            if len(value) > _MAX_TEXT or "=" not in value:
                raise CommandRefused(option, f"'key=text' of at most {_MAX_TEXT} characters")
        case Value.SIZE:
            _require(_PLAIN, option, value)
            check_size(option, value, limits)
        case Value.MAP:
            _require(_MAP, option, value)
        case Value.CODEC:
            if value not in (format_table.DECODERS if is_input else format_table.ENCODERS):
                if format_table.HARDWARE_CODEC.fullmatch(value):
                    raise CommandRefused(option, f"{format_table.NO_HARDWARE} for the codec '{value[:40]}'")
                raise CommandRefused(option, f"the codec '{value[:40]}' is not allowed")
        case Value.FORMAT:
            if value not in (format_table.DEMUXERS | {"lavfi"} if is_input else format_table.MUXERS):
                why = _WHY_NO_FORMAT.get(value, "is not allowed")
                raise CommandRefused(option, f"the format '{value[:40]}' {why}")
        case Value.BITSTREAM_FILTERS:
            _check_bitstream_filters(option, value)
        case Value.ENCODER_PARAMS:
            _check_params(rule.name, option, value, limits)
        case Value.CODEC_FLAGS:
            for flag in re.split("[+-]", value.removeprefix("+").removeprefix("-")):
                if flag not in _CODEC_FLAGS:
                    raise CommandRefused(option, f"the flag '{flag[:40]}' is not allowed")
        case Value.KEY_FRAMES:
            _require(_KEY_FRAMES, option, value)
            check_expression(value, option)
        case _:
            if not _RATIO.fullmatch(value):
                _require(_PLAIN, option, value)
                # ffmpeg reads every number as an expression.
                check_expression(value, option)


def _require(pattern: re.Pattern[str], option: str, value: str) -> None:
    if not pattern.fullmatch(value):
        raise CommandRefused(option, f"'{value[:40]}' is not a value that this option takes")


def _threads(option: str, value: str, limits: Limits) -> str:
    # 0 means as many as there are cores, which a container's limits don't lower.
    if (count := whole_number(value)) is None or count > _MAX_THREADS:
        raise CommandRefused(option, f"a number up to {_MAX_THREADS}")
    return str(min(count or limits.threads, limits.threads))


def _check_params(name: str, option: str, value: str, limits: Limits) -> None:
    allowed = format_table.ENCODER_PARAMS[format_table.PARAMS_OF[name]]
    for part in value.split(":"):
        key, _, setting = part.partition("=")
        if key not in allowed and key.replace("_", "-") not in allowed:
            raise CommandRefused(f"{option} {key}", "this encoder option is not allowed")
        if not _PARAM.fullmatch(setting):
            raise CommandRefused(f"{option} {key}", f"'{setting[:40]}' is not a value that this option takes")
        if key.replace("_", "-") in _THREAD_PARAMS and not _is_thread_count(setting, limits):
            raise CommandRefused(f"{option} {key}", f"a number from 1 to {limits.threads}")


def _is_thread_count(value: str, limits: Limits) -> bool:
    return 0 < (whole_number(value) or 0) <= limits.threads


def _check_bitstream_filters(option: str, value: str) -> None:
    for part in value.split(","):
        match = _BITSTREAM.fullmatch(part)
        if not match or match[1] not in format_table.BITSTREAM_FILTERS:
            raise CommandRefused(option, f"the bitstream filter '{part.partition('=')[0][:40]}' is not allowed")


def seconds_of(text: str) -> float | None:
    """Seconds of `12.5`, `1:30`, `00:01:30` or `500ms`; None for anything else."""
    match = _TIME.fullmatch(text)
    if not match:
        return None
    hours, minutes, seconds, unit = match.groups()
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    return whole * {"ms": 1e-3, "us": 1e-6}.get(unit or "s", 1.0)

"""Holds the tables against the installed binaries' own word."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from services.ffmpeg import format_table
from services.ffmpeg.option_table import _NATIVE, OPTIONS, Value, Where
from tests.support.programs import installed, static, told

# AVOptions of type string that were looked up: none of them names a file.
_REVIEWED_STRINGS = {
    "aom-params", "brand", "color", "deblock", "fec", "framerate", "level", "partitions", "pixel_format", "preset",
    "profile", "psy-rd", "rav1e-params", "sub_charenc", "svtav1-params", "tune", "vendor", "video_size", "wpredp",
    "x264-params", "x264opts", "x265-params",
}  # fmt: skip


NATIVE = {name for *_, names in _NATIVE for name in names.split()}


def native(arity: int) -> list[str]:
    return [name for name in sorted(NATIVE) if OPTIONS[name].arity == arity]


@pytest.mark.parametrize("program", [installed, static], ids=["installed", "static"])
def test_arity_is_what_the_binary_says(program: Callable[[], str]) -> None:
    """One command for all: an option with a value swallows `-zz`, a switch leaves `-c` to swallow it.

    Where one of them has the other arity, `-zz` is left over and ffmpeg names it. A control shows that it would.
    """
    binary = program()
    head = told(binary, "-h", "long")
    known = {match[1] for match in re.finditer(r"^-([\w]+)", head, re.MULTILINE)}
    words: list[str] = []
    for name in native(1):
        if name in known and name not in ("loglevel", "v"):  # these two are read before all others
            words += [f"-{name}", "-zz"]
    for name in native(0):
        if name in known or name.removeprefix("no") in known:
            words += [f"-{name}", "-c", "-zz"]
    assert len(words) > 150
    assert "Missing argument for option 'c'" in told(binary, *words, "-c")
    assert "Unrecognized option 'zz'" in told(binary, *words, "-an", "-zz", "-c")


def test_every_native_option_exists_in_the_installed_binary() -> None:
    head = told(installed(), "-h", "long")
    known = {match[1] for match in re.finditer(r"^-([\w]+)", head, re.MULTILINE)}
    assert {name for name in NATIVE if name not in known and name.removeprefix("no") not in known} == set()


def test_every_codec_option_exists_and_its_strings_were_reviewed() -> None:
    full = told(installed(), "-h", "full")
    types: dict[str, set[str]] = {}
    for match in re.finditer(r"^ {0,2}-([\w-]+) +<(\w+)>", full, re.MULTILINE):
        types.setdefault(match[1], set()).add(match[2])
    ours = OPTIONS.keys() - NATIVE
    assert ours - set(types) == set()
    strings = {name for name in ours if types[name] & {"string", "dictionary", "binary"}}
    assert strings - _REVIEWED_STRINGS == set()


def test_no_option_is_one_that_names_files_or_widens_a_guard() -> None:
    dangerous = """attach dump_attachment progress report passlogfile pass filter_complex_script
        filter_script vstats_file sdp_file init_hw_device filter_hw_device hwaccel vaapi_device
        protocol_whitelist format_whitelist codec_whitelist max_pixels safe enable_drefs
        use_absolute_path allowed_extensions pattern_type stats_enc_post print_graphs_file fpre
        pre vpre apre spre stdin dump hex debug_ts timelimit max_alloc cpuflags stats_file
        movflags_file"""
    kept = {rule.name for rule in OPTIONS.values() if rule.value not in (Value.IGNORED, Value.IGNORED_SWITCH)}
    assert kept.isdisjoint(dangerous.split())


def test_what_is_dropped_stands_anywhere() -> None:
    dropped = [rule for rule in OPTIONS.values() if rule.value in (Value.IGNORED, Value.IGNORED_SWITCH)]
    assert dropped
    assert all(rule.where is Where.GLOBAL for rule in dropped)


def _names(listing: str) -> set[str]:
    return {
        name for match in re.finditer(r"^ [DEd. ]{2,3} +(\S+)", listing, re.MULTILINE) for name in match[1].split(",")
    }


def test_formats_exist_and_none_opens_other_files() -> None:
    demuxers, muxers = _names(told(installed(), "-demuxers")), _names(told(installed(), "-muxers"))
    newer = {"vvc", "avif", "jpegxl_anim"}  # not in every build
    assert format_table.DEMUXERS - demuxers - newer == set()
    assert format_table.MUXERS - muxers - newer == set()
    assert set(format_table.EXTENSIONS.values()) <= format_table.MUXERS
    openers = """concat hls dash sdp rtsp rtp vobsub mlv imf image2pipe tty data lavfi svg_pipe
        webm_dash_manifest avisynth libopenmpt libgme v4l2 fbdev alsa"""
    assert format_table.DEMUXERS.isdisjoint(openers.split())
    writers = """hls dash segment ssegment stream_segment tee fifo webm_chunk webm_dash_manifest hds
        smoothstreaming null rtp rtsp sap rtp_mpegts data ffplay sdl fbdev v4l2 chromaprint
        uncodedframecrc mpjpeg"""
    assert format_table.MUXERS.isdisjoint(writers.split())


def test_bitstream_filters_exist() -> None:
    listed = set(told(installed(), "-bsfs").split())
    assert format_table.BITSTREAM_FILTERS - listed == set()

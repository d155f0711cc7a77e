"""Holds the filter table against the installed binary's own word."""

from __future__ import annotations

import re

import pytest

from services.ffmpeg.filter_table import SOURCES, Kind, table
from tests.support.programs import installed, told

Options = list[tuple[str, str]]

# An option of a filter has F in its flags: `..FV.....T.`.
_OPTION = re.compile(r"^ {1,4}([\w-]+) +<(\w+)> +..F", re.MULTILINE)
_SECTION = re.compile(r"^(\S.*) AVOptions:$\n((?:.+\n)*)", re.MULTILINE)
_STRINGS = {"string", "dictionary", "binary"}
# Options whose names say that they are a file's, whatever their type is called.
_FILE_NAMES = re.compile(r"file(?!$)|(?<!pro)file$|path|script|weights_file|plot|debug_kdtree|fontsdir|format_opts")
# libavfilter 5.1 forgot the flags of these, so no help shows them; they are there all the same.
_HIDDEN = {("scale", "size"), ("scale", "s"), ("scale2ref", "size"), ("scale2ref", "s"), ("tinterlace", "flags")}
_REFUSED = """sendcmd asendcmd zmq azmq ladspa lv2 frei0r frei0r_src flite program_opencl openclsrc libplacebo ocr asr
    dnn_detect dnn_processing dnn_classify derain sr vidstabdetect vidstabtransform signature removelogo find_rect
    cover_rect fieldhint cellauto life nnedi sofalizer buffer abuffer hwupload hwmap realtime arealtime bench abench
    vmafmotion"""


def _class_names(title: str) -> set[str]:
    """Filters that share a class of options: `(a)movie`, `scale(2ref)`, `lut/lutyuv/lutrgb`, `pal(75|100)bars`."""
    names = set(title.split("/"))
    if match := re.search(r"\(([\w|]+)\)", title):
        names |= {title.replace(match[0], choice) for choice in ("", *match[1].split("|"))}
    return names


def read_options() -> dict[str, Options]:
    """Filter → its own options, in order, as the installed binary tells them."""
    binary = installed()
    found: dict[str, Options] = {}
    for title, body in _SECTION.findall(told(binary, "-h", "full")):
        if filtering := _OPTION.findall(body):
            for name in _class_names(title):
                found.setdefault(name, filtering)
    for name, rule in table().items():
        if name not in found and rule.slots:
            sections = _SECTION.findall(told(binary, "-h", f"filter={name}"))
            found[name] = _OPTION.findall(sections[0][1])
    return found


@pytest.fixture(scope="module", name="options")
def _options() -> dict[str, Options]:
    return read_options()


def test_every_filter_exists() -> None:
    listed = {line.split()[1] for line in told(installed(), "-filters").splitlines() if "->" in line}
    assert set(table()) - listed == set()
    assert len(table()) > 300


def test_every_source_is_known_for_one() -> None:
    """But for those that read a file, or make a filter's numbers and end."""
    listed = {line.split()[1] for line in told(installed(), "-filters").splitlines() if "|->" in line}
    assert listed & set(table()) == SOURCES | {"movie", "amovie", "sinc", "hilbert", "afirsrc"}


def test_every_option_exists_in_the_binary_s_order(options: dict[str, Options]) -> None:
    """What stands without a name is understood as ffmpeg would."""
    wrong = {
        name: (ours, theirs)
        for name, rule in table().items()
        if (ours := [alias for slot in rule.slots for alias in slot if (name, alias) not in _HIDDEN])
        != (theirs := [option for option, _ in options.get(name, [])])
    }
    assert wrong == {}


def test_every_string_was_looked_up(options: dict[str, Options]) -> None:
    """No option that is text for the binary passes as a number here: text is where files hide."""
    unseen = {
        (name, option)
        for name, rule in table().items()
        for option, kind in options.get(name, [])
        if kind in _STRINGS and rule.kinds[option] in (Kind.VALUE, Kind.SIZE)
    }
    assert unseen == set()
    strings = sum(kind in _STRINGS for name in table() for _, kind in options.get(name, []))
    assert strings > 200


def test_no_option_that_sounds_like_a_file_passes_as_a_value() -> None:
    loose = {
        (rule.name, option)
        for rule in table().values()
        for option, kind in rule.kinds.items()
        if _FILE_NAMES.search(option) and kind in (Kind.VALUE, Kind.SIZE, Kind.STRING, Kind.TEXT)
    }
    assert loose == set()


def test_filters_that_load_code_open_files_or_sockets_are_not_there() -> None:
    assert set(_REFUSED.split()).isdisjoint(table())
    assert not [name for name in table() if re.search(r"_(opencl|vulkan|vaapi|qsv|cuda)$", name)]

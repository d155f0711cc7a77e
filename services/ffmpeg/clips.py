"""What must match so that clips can be joined without encoding, and the commands that join them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.ffmpeg.format_table import FORMAT_WHITELIST, INPUT_GUARD
from services.ffmpeg.limits import Limits
from services.ffmpeg.probe import ProbeCutShort, ProbeFailed, ask, described
from services.ffmpeg.process import NoTimeError
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.work_folder import WorkFolder

# Which stream it is, what a decoder is told once, at the beginning, and what the packets are counted in.
_SAME = (
    *("index", "codec_type", "codec_name", "profile", "extradata_hash", "time_base"),
    *("width", "height", "pix_fmt", "sample_aspect_ratio", "field_order"),
    # Of the colours what encoding converts. It makes no SDR of HDR, and a copy at least keeps the depth.
    *("color_space", "color_range"),
    *("sample_fmt", "sample_rate", "channels", "channel_layout"),
)
_ENTRIES = (
    f"format=format_name,start_time,duration:stream=duration,{','.join(_SAME)}"
    ":stream_disposition=attached_pic:stream_side_data=displaymatrix,rotation:packet=dts_time"
)
# Not Matroska: Debian's ffmpeg reads there that pictures are turned, and does not write it.
_TURNING = frozenset({"mp4", "mov"})
# In these formats the duration that a header tells is counted from 0, even if the first stream begins later.
_COUNTED_FROM_ZERO = ("mov,", "matroska,")
_QUIET = ("-hide_banner", "-nostdin", "-loglevel", "level+error", "-progress", "pipe:1", "-y")
# The encoder gives no durations, and nothing else tells that of the last frame: as long as the one before.
_LASTING = (
    "-bsf:v",
    "setts=pts=PTS:dts=DTS:duration='if(gt(NEXT_DTS,DTS),NEXT_DTS-DTS,if(eq(PREV_INDTS,NOPTS),DURATION,DTS-PREV_INDTS))'",
)
# Colour matrices, for pictures in luma and chroma: the header's name -> the scaler's.
_MATRICES = {
    **{name: name for name in ("bt709", "smpte170m", "smpte240m", "fcc")},
    **{"bt470bg": "bt470", "bt2020nc": "bt2020"},
}
_LUMA_FORMATS = ("yuv", "nv", "p01", "uyvy", "yuyv")
_AAC = ("-c:a", "aac", "-b:a", "160k")
# Gaps in the sound of a clip become silence: raw samples, which parts have, would close up.
_GAPLESS = "aresample=async=1:min_hard_comp=0.01:first_pts=0"
# In these formats sound is timed by its samples alone: where one clip has too few, that of all later ones comes early.
# Where that can be heard, the sound is encoded again, with silence, by a lossless codec.
_GAPLESS_CODECS = {".avi": "pcm_s16le", ".ogg": "flac"}
_HEARD_SECONDS = 0.1
_SOUND = f"{_GAPLESS},aformat=sample_rates=48000:channel_layouts=stereo"


@dataclass(frozen=True)
class Clip:
    """One clip: its file, and what is in it."""

    path: Path
    video: tuple[Any, ...] | None
    video_index: int
    """Among all streams of the file: a cover may come before the moving picture. -1 where it has none."""
    audio: tuple[Any, ...] | None
    audio_index: int
    """-1 where it has no sound."""
    is_turned: bool
    """Its header has a player turn or mirror the picture."""
    width: int
    height: int
    """Square pixels of the picture as it is shown, upright; one that is hardly there may have 0."""
    matrix: str
    """The colour matrix, a key of `_MATRICES`; guessed by the size, as players do, where the file does not tell."""
    is_matrix_guessed: bool
    is_iso: bool
    """It is an MP4 or a MOV, whose edit list may hide frames."""
    duration_seconds: float
    """From the beginning of its first stream; 0 where the file does not tell."""
    silent_seconds: float
    """By which its sound, if it has any, ends before its picture; infinite where the file tells no end of it."""


async def describe_clip(sandbox: Sandbox, folder: WorkFolder, path: Path) -> Clip:
    """What the file at `path`, inside `folder`, is; raises ProbeFailed, where it has no picture and no sound, too."""
    options = ("-show_data_hash", "sha256", "-read_intervals", "%+#1")
    return await described(sandbox, folder, path, _ENTRIES, lambda report: _clip(path, report), *options)


def _clip(path: Path, report: dict[str, Any]) -> Clip:
    container = report.get("format", {})
    streams = [one for one in report["streams"] if not one.get("disposition", {}).get("attached_pic")]
    video: dict[str, Any] = next((one for one in streams if one["codec_type"] == "video"), {})
    audio = next((one for one in streams if one["codec_type"] == "audio"), None)
    if not video and audio is None:
        raise ProbeFailed("it has no moving picture and no sound")
    # A player stretches the stored pixels first, and turns what it has then.
    turn, width, height = _turn(video), _stretched_width(video), int(video.get("height", 0))
    if _is_quarter(turn):
        width, height = height, width
    told, is_large = str(video.get("color_space")), max(width, height) >= 1280 or min(width, height) > 576
    return Clip(
        path=path,
        video=(*_parameters(video), turn.get("displaymatrix")) if video else None,
        video_index=int(video.get("index", -1)),
        audio=_parameters(audio) if audio else None,
        audio_index=int(audio["index"]) if audio else -1,
        is_turned=bool(turn),
        width=width,
        height=height,
        matrix=told if told in _MATRICES else "bt709" if is_large else "smpte170m",
        # RGB has none.
        is_matrix_guessed=told not in _MATRICES and str(video.get("pix_fmt")).startswith(_LUMA_FORMATS),
        is_iso=str(container.get("format_name")).startswith("mov,"),
        duration_seconds=_seconds(container, report.get("packets", [])),
        # Of Ogg only the last 64 KiB are looked at: sound that has no page there ended before.
        silent_seconds=max(float(video.get("duration", 0)) - float(audio.get("duration", -math.inf)), 0.0)
        if audio
        else 0.0,
    )


def _seconds(container: dict[str, Any], packets: Sequence[dict[str, Any]]) -> float:
    seconds = float(container.get("duration", 0))
    # Without an edit list the first picture is late by the delay of reordering, which no duration counts.
    is_late = not packets or float(packets[0].get("dts_time", 1)) > 0
    if seconds > 0 and is_late and str(container.get("format_name")).startswith(_COUNTED_FROM_ZERO):
        return max(seconds - float(container.get("start_time", 0)), 0.0)
    return seconds


def _parameters(stream: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(stream.get(name) for name in _SAME)


def _stretched_width(video: dict[str, Any]) -> int:
    wide, high = (int(number) for number in video.get("sample_aspect_ratio", "1:1").split(":"))
    width = int(video.get("width", 0))
    return width * wide // high if wide > 0 and high > 0 else width


def _turn(video: dict[str, Any]) -> dict[str, Any]:
    return next((data for data in video.get("side_data_list", []) if "displaymatrix" in data), {})


def _is_quarter(turn: dict[str, Any]) -> bool:
    # The two turns that swap width and height, to a degree, as ffmpeg does.
    return abs(abs(int(turn.get("rotation", 0))) % 180 - 90) <= 1


def match(clips: Sequence[Clip], extension: str) -> bool:
    """Whether the packets of all clips can follow each other under one header, in a file of that extension."""
    first = clips[0]
    if first.is_turned and extension not in _TURNING:
        return False
    return all((clip.video, clip.audio) == (first.video, first.audio) for clip in clips)


async def hide_frames(sandbox: Sandbox, folder: WorkFolder, clips: Sequence[Clip]) -> bool:
    """Whether one of them hides frames at its beginning or end, as a cut without encoding does; raises ProbeFailed.

    Copied they would be seen: what is joined has no such edit list.
    """
    hidden = False

    def note(flags: bytes) -> None:
        nonlocal hidden
        # Marked to be discarded: it is decoded for the packets that need it alone.
        hidden = hidden or b"D" in flags

    for clip in clips:
        if clip.is_iso and not hidden:
            # The first packet, and all from the last key frame on. Not of sound: AAC begins with a hidden one.
            read = ("-select_streams", str(clip.video_index), "-read_intervals", "%+#1,9999999%")
            await ask(sandbox, folder, clip.path, "packet=flags", note, "-print_format", "csv=p=0", *read)
    return hidden


async def decodable(sandbox: Sandbox, folder: WorkFolder, clip: Clip) -> Clip | None:
    """The clip, without its sound if nothing of that can be decoded; None if nothing of its picture, or of all, can."""
    streams = {b"%d" % index for index in (clip.video_index, clip.audio_index) if index >= 0}
    seen = set[bytes]()

    def note(line: bytes) -> None:
        # What may be told beside a frame is left empty.
        seen.add(line.strip(b",\n"))

    # The first packets are enough of most clips; of the others all are read.
    for interval in ("%+#100", "%"):
        read = ("-print_format", "csv=p=0", "-read_intervals", interval)
        try:
            await ask(sandbox, folder, clip.path, "frame=stream_index", note, *read)
        except (ProbeCutShort, NoTimeError):
            # It takes so long because there is much of it, or the machine is slow: it has not only begun.
            return clip
        except ProbeFailed:
            # What came before the fault counts.
            pass
        if streams <= seen:
            return clip
    if clip.video is None or b"%d" % clip.video_index not in seen:
        return None
    return replace(clip, audio=None, audio_index=-1)


@dataclass(frozen=True)
class Shape:
    """What clips that differ are brought to."""

    width: int
    height: int
    matrix: str
    """A key of `_MATRICES`."""
    sound: bool

    @classmethod
    def of(cls, clips: Sequence[Clip], limits: Limits) -> Shape:
        """The size in which the first picture is shown, even and within the limits, and its colours; sound if any."""
        first = next(clip for clip in clips if clip.video)
        width, height = max(first.width, 1), max(first.height, 1)
        # A header can have a few pixels shown at any width.
        scale = min(1.0, limits.max_side / max(width, height), math.sqrt(limits.max_pixels / (width * height)))
        return cls(_even(width * scale), _even(height * scale), first.matrix, any(clip.audio for clip in clips))


def _even(side: float) -> int:
    # H.264 of the pixel format that every player knows has one colour for two by two pixels.
    return max(int(side) // 2 * 2, 2)


def _fit(clip: Clip, shape: Shape) -> str:
    # The whole picture in the frame, on black. `dar` is its display aspect ratio, upright: one step, as large as the
    # frame at most, while to make the pixels square first could take any memory. Evaluated for each frame, since a
    # picture may change its size: a recorded window, a camera in a call.
    width, height = shape.width, shape.height
    # One header tells the colours of all clips, and not every ffmpeg converts them by itself.
    told = f"setparams=colorspace={clip.matrix}," if clip.is_matrix_guessed else ""
    return (
        f"{told}scale=w='max(2,2*round(min({width},{height}*dar)/2))':h='max(2,2*round(min({height},{width}/dar)/2))'"
        f":out_color_matrix={_MATRICES[shape.matrix]}:out_range=tv:eval=frame,"
        f"pad={width}:{height}:-1:-1:eval=frame,setsar=1,format=yuv420p"
    )


def copy_arguments(clips: Sequence[Clip], folder: WorkFolder, output: Path) -> list[str]:
    """The arguments that join matching clips of `in` packet by packet; writes the list that they name."""
    first, codec = clips[0], _GAPLESS_CODECS.get(output.suffix)
    sound = ("-map", f"0:{first.audio_index}") if first.audio else ()
    streams = ("-map", f"0:{first.video_index}", *sound, "-c", "copy")
    is_late = sum(clip.silent_seconds for clip in clips[:-1]) > _HEARD_SECONDS
    gapless = ("-af", _GAPLESS, "-c:a", codec) if codec and is_late else ()
    listed = _listed([_entry(clip.path, clip.duration_seconds) for clip in clips], folder)
    return [*listed, *streams, *gapless, *_for(output), f"file:{output}"]


def parts_arguments(files: Sequence[Path], folder: WorkFolder, output: Path) -> list[str]:
    """The same for parts that `encode_arguments` made: pictures as they are, sound encoded in one go."""
    # A part's sound may end a little before its picture.
    sound = ("-af", _GAPLESS, *_AAC)
    streams = ("-map", "0:v:0", "-map", "0:a:0?")
    listed = _listed([_entry(file) for file in files], folder)
    return [*listed, *streams, "-c:v", "copy", *sound, *_for(output), f"file:{output}"]


def _listed(entries: Sequence[str], folder: WorkFolder) -> tuple[str, ...]:
    listing = folder.path / "in" / "clips.txt"
    listing.write_text("ffconcat version 1.0\n" + "".join(entries))
    whitelist = ("-protocol_whitelist", "file", "-format_whitelist", f"concat,{FORMAT_WHITELIST}")
    read = ("-f", "concat", "-auto_convert", "0", *whitelist, "-i", f"file:{listing}")
    return (*_QUIET, *read)


def _entry(file: Path, seconds: float = 0.0) -> str:
    # Our own names of plain characters; each was probed before, and is no list itself. Where the seconds are not told,
    # the next file begins after what a header calls the duration.
    return f"file {file.name}\n" + (f"duration {seconds:.6f}\n" if seconds else "")


def encode_arguments(
    clips: Sequence[Clip], shape: Shape, output: Path, limits: Limits, *, is_part: bool = False
) -> list[str]:
    """The arguments that bring clips to one shape and encode them once, every frame of each.

    One without a picture is heard over black, one without sound is silent.
    Parts follow each other without a seam: their sound is raw samples, and they have no B-frames.
    """
    graph: list[str] = []
    pads = ""
    for index, clip in enumerate(clips):
        lasting = f"{max(clip.duration_seconds, 0.001):.6f}"
        black = f"color=black:{shape.width}x{shape.height}:d={lasting},"
        silence = f"anullsrc=r=48000:cl=stereo,atrim=duration={lasting},"
        graph.append(f"{f'[{index}:{clip.video_index}]' if clip.video else black}{_fit(clip, shape)}[v{index}]")
        graph.append(f"{f'[{index}:{clip.audio_index}]' if clip.audio else silence}{_SOUND}[a{index}]")
        pads += f"[v{index}][a{index}]"
    graph.append(f"{pads}concat=n={len(clips)}:v=1:a=1[v][a]")
    if not shape.sound:
        # Silence tells concat how long each clip is, which it does not know of a single frame.
        graph.append("[a]anullsink")
    threads = ("-threads", str(limits.threads))
    inputs = [argument for clip in clips for argument in (*threads, *_reading(clip))]
    sound = ("-map", "[a]", *(("-c:a", "pcm_s16le") if is_part else _AAC)) if shape.sound else ()
    order = ("-bf", "0") if is_part else ()
    colours = ("-colorspace", shape.matrix)
    picture = ("-map", "[v]", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", *colours, *order, *threads)
    # Every frame as it comes: none is dropped for being early, none doubled for being late.
    timing = ("-fps_mode", "passthrough", "-enc_time_base:v", "1:90000", "-video_track_timescale", "90000", *_LASTING)
    drawn = (*inputs, "-filter_complex", ";".join(graph))
    return [*_QUIET, *drawn, *picture, *timing, *sound, *_for(output), f"file:{output}"]


def _reading(clip: Clip) -> tuple[str, ...]:
    # At a frame of another size ffmpeg would restart the whole graph, and its time with it. A picture that is turned
    # cannot do without that.
    going_on = () if clip.is_turned else ("-reinit_filter:v", "0")
    return (*going_on, *INPUT_GUARD, "-i", f"file:{clip.path}")


def _for(output: Path) -> tuple[str, ...]:
    return ("-movflags", "+faststart") if output.suffix in (".mp4", ".mov") else ()

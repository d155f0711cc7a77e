"""A graph that was read and written anew does what the client's own text does: frame for frame, on the real ffmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from services.ffmpeg.command_policy import plan
from tests.support.programs import installed

VIDEO = "testsrc=s=96x64:r=5:d=2"
SOUND = "sine=f=440:r=8000:d=2"
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"

VIDEO_GRAPHS = [
    "null",
    "scale=48:-2",
    "scale=w=iw/2:h=ih/2:flags=bicubic",
    "scale=hd480",
    "scale=48x32",
    "scale='min(40,iw)':'min(30,ih)':force_original_aspect_ratio=decrease",
    "sws_flags=neighbor;scale=40:30",
    "crop=32:32",
    "crop=in_w-2*10:in_h-2*10:10:10",
    "pad=ceil(iw/2)*2:ceil(ih/2)*2:-1:-1:red,setsar=1",
    "fps=10,setpts=0.5*PTS",
    "setpts=PTS-STARTPTS, format=yuv420p|rgb24",
    "select='not(mod(n\\,3))',tile=2x2",
    "select=eq(n\\,0)+eq(n\\,4)",
    "transpose=1,hflip,vflip,rotate=PI/6:c=none",
    "eq=brightness=0.06:saturation=2,hue=h=30:s=1,unsharp=5:5:1.0",
    "curves=preset=vintage",
    "curves=r='0/0.11 .42/.51 1/0.95':g='0/0 0.50/0.48 1/1'",
    "colorchannelmixer=.3:.4:.3:0:.3:.4:.3:0:.3:.4:.3",
    "geq='lum=lum(X,Y)/2:cb=128:cr=128'",
    "lutyuv='u=128:v=128'",
    "drawbox=10:10:20:20:red@0.5:t=fill",
    "drawbox=x=10:y=10:w=iw/2:h=10:color=blue:enable='between(t,0.5,1)'",
    f"drawtext=fontfile={FONT}:text='It'\\\\\\''s 50\\% \\: [x], a;b':fontsize=12:x=(w-tw)/2:y=h-20",
    f"drawtext=fontfile={FONT}:text='%{{pts\\:hms}} %{{n}}':fontsize=10:fontcolor=yellow",
    f"drawtext=text=Hello\\\\: World:fontfile={FONT}",
    f"drawtext=fontfile={FONT}:text='two\nlines'",
    "fade=in:0:5,fade=t=out:st=1:d=0.5",
    "split[a][b];[a]hflip[c];[b][c]hstack",
    "[in]split=3[a][b][c];[a][b][c]vstack=3[out]",
    "split [main][tmp]; [tmp] crop=iw:ih/2:0:0, vflip [flip]; [main][flip] overlay=0:H/2",
    "split[s0][s1];[s0]palettegen=max_colors=32[p];[s1][p]paletteuse=dither=bayer:bayer_scale=3",
    "zoompan=z='min(zoom+0.0015,1.5)':d=2:s=40x30",
    "hqdn3d=4:3:6:4.5,gblur=sigma=2,boxblur=2:1",
    "deband,noise=alls=10:allf=t:all_seed=7,vignette=PI/4",
    "tblend=all_mode=average,framestep=2",
    "chromakey=0x00FF00:0.1:0.2,colorkey=black:0.3",
    "perspective=0:0:W:10:0:H:W:H-10",
    "format=gray,convolution='0 -1 0 -1 5 -1 0 -1 0:0 -1 0 -1 5 -1 0 -1 0'",
    "trim=0.4:1.2,reverse",
    "minterpolate=fps=10:mi_mode=blend,mpdecimate",
    "yadif=1:-1:0,kerndeint",
    "v360=e:flat:h_fov=90:v_fov=60:w=40:h=30",
    "tpad=start_duration=0.4:color=blue,loop=1:5:0",
]
SOUND_GRAPHS = [
    "volume=0.5",
    "volume='if(lt(t,1),0.2,1)':eval=frame",
    "afade=t=in:st=0:d=1,atempo=1.25",
    "aresample=16000:async=1,aformat=sample_fmts=s16|flt:channel_layouts=stereo",
    "pan=stereo|c0=FC|c1=0.5*FC",
    "pan='stereo| FL < FC | FR < FC'",
    "aecho=0.8:0.9:100|150:0.3|0.2",
    "equalizer=f=1000:t=q:w=1:g=2,highpass=200,lowpass=f=3000",
    "acompressor=threshold=-20dB:ratio=4,alimiter",
    "compand=attacks=0.3|0.3:decays=1|1:points=-90/-60|-60/-40|-40/-30|-20/-20",
    "asetrate=8000*1.2,aresample=8000",
    "aeval=val(0)|-val(0):c=stereo",
    "asplit[a][b];[b]adelay=200|200[c];[a][c]amix=inputs=2:duration=first",
    "loudnorm=I=-16:TP=-1.5:LRA=11",
    "chorus=0.7:0.9:55:0.4:0.25:2,tremolo,silenceremove=1:0:-50dB",
    "firequalizer=gain='if(gt(f,1000),-INF,0)'",
]


def _frames(folder: Path, source: str, option: str, *graphs: str) -> list[str]:
    """The hashes of all frames of each graph, from one run on one source."""
    command = [installed(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source]
    outputs = [folder / str(number) for number in range(len(graphs))]
    for graph, output in zip(graphs, outputs, strict=True):
        command += [option, graph, "-f", "framemd5", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [output.read_text() for output in outputs]


def _rewritten(graph: str, option: str) -> str:
    quoted = graph.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    argv = plan(f'-f lavfi -t 1 -i color {option} "{quoted}" out_1', {}, {"out_1": "o.mkv"}).argv("/job")
    return argv[argv.index(option) + 1]


@pytest.mark.parametrize(
    ("source", "option", "graph"),
    [(VIDEO, "-vf", graph) for graph in VIDEO_GRAPHS] + [(SOUND, "-af", graph) for graph in SOUND_GRAPHS],
)
def test_our_text_gives_the_same_frames(source: str, option: str, graph: str, tmp_path: Path) -> None:
    theirs, ours = _frames(tmp_path, source, option, graph, _rewritten(graph, option))
    assert theirs.count("\n") > 5
    assert ours == theirs

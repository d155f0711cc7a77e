"""What a command may say, what it becomes, and what is refused by its name."""

from __future__ import annotations

import pytest

from services.common.error_catalog import ErrorReason
from services.ffmpeg.command_policy import plan
from services.ffmpeg.format_table import FORMAT_WHITELIST
from services.ffmpeg.refusal import CommandRefused

ONE = {"in_1": "https://example.com/a.mp4"}
TWO = {**ONE, "in_2": "https://example.com/b.srt?sig=x"}
OUT = {"out_1": "o.mp4"}


def refusal(command: str, inputs: dict[str, str] | None = None, outputs: dict[str, str] | None = None) -> str:
    with pytest.raises(CommandRefused) as refused:
        plan(command, ONE if inputs is None else inputs, OUT if outputs is None else outputs)
    assert refused.value.reason is ErrorReason.COMMAND_REFUSED
    assert refused.value.kind.http_status == 400
    return refused.value.message


def after(argv: list[str], word: str) -> str:
    return argv[argv.index(word) + 1]


def test_the_documented_example_runs_as_written_with_the_forced_guards() -> None:
    argv = plan("-i in_1 -c:v libx264 -crf 23 out_1", ONE, OUT).argv("/job/x")
    at = argv.index("-i")
    assert argv[at + 1] == "file:/job/x/in/0.mp4"
    guards = argv[:at]
    assert after(guards, "-protocol_whitelist") == "file"
    assert after(guards, "-format_whitelist") == FORMAT_WHITELIST
    assert {"hls", "dash", "concat", "sdp", "lavfi", "tty", "data"}.isdisjoint(FORMAT_WHITELIST.split(","))
    assert argv[at + 2 : at + 8] == ["-threads", "4", "-c:v", "libx264", "-crf", "23"]
    assert argv[-1] == "file:/job/x/out/0.mp4"
    assert after(argv[at:], "-f") == "mp4"
    assert "-nostdin" in argv


def test_every_input_has_the_guards_right_before_it() -> None:
    argv = plan("-i in_1 -f lavfi -t 1 -i sine -i in_1 -map 0 -map 1 out_1", ONE, OUT).argv("/job")
    for at in [index for index, word in enumerate(argv) if word == "-i"]:
        assert argv[at - 6 : at : 2] == ["-protocol_whitelist", "-format_whitelist", "-max_pixels"]
        assert argv[at - 5] == "file"


def test_a_plan_shows_placeholders_instead_of_paths() -> None:
    shown = plan("-i in_1 -vf subtitles={{in_2}} out_1", TWO, OUT).display()
    assert "file:{{in_1}}" in shown
    assert "subtitles=filename={{in_2}}" in shown
    assert shown[-1] == "file:{{out_1}}"
    assert not any("in/0" in word for word in shown)


@pytest.mark.parametrize("folder", ["relative", "/a b", "/a:b", "/a/../b", "/a'b", "/a,b", "/ü"])
def test_a_job_folder_must_be_plain(folder: str) -> None:
    with pytest.raises(ValueError, match="job folder"):
        plan("-i in_1 out_1", ONE, OUT).argv(folder)


def test_local_names_are_ours() -> None:
    inputs = {"in_1": "https://h/x/../../evil%00.MP4?a=.png#b", "in_2": "https://h/strange.exe", "in_3": "video://abc"}
    made = plan("-i in_3 -i in_2 -i in_1 -map 0 out_1", inputs, {"out_1": "My file.MOV"})
    assert [file.path for file in made.inputs] == ["in/0", "in/1", "in/2.mp4"]
    assert [(file.name, file.path) for file in made.outputs] == [("My file.MOV", "out/0.mov")]


def test_a_prefix_of_a_placeholder_is_not_it() -> None:
    argv = plan(
        "-i in_10 -i in_1 -map 0 -map 1 out_1", {"in_1": "http://h/a.m4a", "in_10": "http://h/b.mp4"}, OUT
    ).argv("/j")
    assert [argv[index + 1] for index, word in enumerate(argv) if word == "-i"] == [
        "file:/j/in/0.mp4",
        "file:/j/in/1.m4a",
    ]


def test_a_media_file_of_a_filter_is_marked_for_probing() -> None:
    made = plan("-i in_1 -filter_complex 'movie={{ in_2 }}[w];[0:v][w]overlay' out_1", TWO, OUT)
    assert {file.placeholder: file.read_by_filter for file in made.inputs} == {"in_1": False, "in_2": True}
    assert "movie=filename=/j/in/1.srt[w];[0:v][w]overlay" in made.argv("/j")
    # In whatever way it is read besides.
    both = "-filter_complex 'movie={{in_1}}[w];[0:v][w]overlay'"
    for command in (f"-i in_1 {both} out_1", f"{both} -i in_1 out_1"):
        assert [file.read_by_filter for file in plan(command, ONE, OUT).inputs] == [True]
    assert [file.read_by_filter for file in plan("-i in_1 -i in_1 -map 1 out_1", ONE, OUT).inputs] == [False]


def test_positional_options_get_their_names() -> None:
    argv = plan("-i in_1 -vf scale=320:-2,hue=s=0 -af volume=0.5 out_1", ONE, OUT).argv("/j")
    assert after(argv, "-vf") == "scale=w=320:h=-2,hue=s=0"
    assert after(argv, "-af") == "volume=volume=0.5"


LEGIT = [
    "-y -hide_banner -loglevel error -i in_1 -c copy -movflags +faststart out_1",
    "-ss 00:00:01.5 -to 5 -i in_1 -c:v libx265 -preset fast -x265-params log_level=error:keyint=48 -tag:v hvc1 out_1",
    "-i in_1 -vf \"drawtext=text='(A) %{pts} meanwhile (a root_of while)'\" out_1",
    "-i in_1 -vf \"drawtext=text='Hello\\: world %{pts}':fontsize=24:fontcolor=white:x=(w-text_w)/2:y=h-40\" out_1",
    (
        "-i in_1 -vf "
        "drawtext=fontfile=/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:text=Hi:box=1:boxcolor=black@0.5 out_1"
    ),
    "-flags low_delay -i in_1 -c:v mpeg4 -flags +mv4+aic-loop -flags:a -bitexact out_1",
    "-i in_1 -filter:v:0 fps=30 -b:v:0 1M -b:a 128k -ar 44100 -ac 2 -aspect 16:9 -r 30000/1001 out_1",
    (
        "-i in_1 -map 0:v:0 -map 0:a:0? -map -0:s -map_metadata -1 -metadata title='A & B / C' "
        "-metadata:s:a:0 language=eng out_1"
    ),
    "-f lavfi -i anullsrc=channel_layout=stereo:sample_rate=44100 -i in_1 -shortest -c:v copy -c:a aac out_1",
    (
        "-f lavfi -i color=c=black:s=640x360:d=3 -i in_1 -filter_complex "
        "'[0][1:v]overlay=x=10:y=10:shortest=1[v]' -map '[v]' out_1"
    ),
    "-f lavfi -i testsrc,trim=end=3 -i in_1 out_1",
    "-loop 1 -framerate 25 -i in_1 -t 3 -pix_fmt yuv420p out_1",
    "-stream_loop -1 -i in_1 -t 20 -c copy out_1",
    "-stream_loop -1 -t 20 -i in_1 -c copy out_1",
    "-stream_loop -1 -i in_1 -vf trim=end=20 out_1",
    "-i in_1 -af loudnorm=I=-16:TP=-1.5:LRA=11,afade=t=in:st=0:d=1,atempo=1.25 -c:a libopus -f webm -vn out_1",
    "-i in_1 -vf transpose=1,crop=iw/2:ih/2:0:0,format=yuv420p,setpts=0.5*PTS,eq=contrast=1.2 -an out_1",
    (
        "-i in_1 -filter_complex "
        "'[0:v]split=2[a][b];[a]scale=640:-2[x];[b]scale=320:-2[y];[x][y]hstack=inputs=2,pad=ceil(iw/2)*2:ih' out_1"
    ),
    "-i in_1 -vf 'select=gt(scene\\,0.4),showinfo' -vsync vfr out_1",
    "-i in_1 -c:v libvpx-vp9 -crf 33 -b:v 0 -row-mt 1 -cpu-used 4 -deadline good -c:a libopus -f webm out_1",
    "-i in_1 -filter_complex [0][0]blend=eof_action=endall:shortest=1:repeatlast=0:ts_sync_mode=nearest out_1",
    "-i in_1 -vf hflip=thread_type=slice -af amix=inputs=2:dropout_transition=100 out_1",
    "-i in_1 -bsf:v h264_mp4toannexb -c copy -f mpegts out_1",
    "-i in_1 -bsf:v h264_metadata=level=4.1,filter_units=remove_types=6 -c copy out_1",
    "-i in_1 -vf minterpolate=fps=60:mi_mode=mci,unsharp,hqdn3d,yadif=mode=1:parity=-1,fade=in:0:30 out_1",
    "-i in_1 -filter_complex [0:a]showwaves=s=640x120:mode=line:colors=White[v] -map [v] -map 0:a out_1",
    "-i in_1 -filter_complex \"[0:a]pan=mono|c0=0.5*c0+0.5*c1,aresample=48000:async=1[a]\" -map [a] out_1",
    "-fflags +genpts -i in_1 -force_key_frames 'expr:gte(t,n_forced*2)' -g 48 -keyint_min 48 -sc_threshold 0 out_1",
    (
        "-i in_1 -vf "
        "thumbnail=n=300,scale=360:200:force_original_aspect_ratio=decrease,pad=360:200:(ow-iw)/2:(oh-ih)/2 "
        "-frames:v 1 -f image2 -update 1 out_1"
    ),
    (
        "-i in_1 -threads 2 -x264-params threads=4:ref=4:me=umh:deblock=-1,-1 -c:v libx264 -tune film "
        "-profile:v high -level 4.1 out_1"
    ),
    "-i in_1 -filter_complex [0:v][0:a]concat=n=1:v=1:a=1[v][a] -map [v] -map [a] -disposition:a:0 default out_1",
    "-i in_1 -vf \"zoompan=z='min(zoom+0.0015,1.5)':d=25:s=160x120\" -t 1 out_1",
    "-re -i in_1 -c copy out_1",
    "-i {{in_1}} -vf \"drawbox=x=10:y=10:w=100:h=50:color=red@0.5:t=fill:enable='between(t,1,2)'\" {{ out_1 }}",
    "-i in_1 -c:v libsvtav1 -preset 10 -svtav1-params tune=0:film-grain=8 -c:a copy out_1",
    "-i in_1 -max_muxing_queue_size 65536 -c:v librav1e -rav1e-params tile_rows=2 out_1",
    "-i in_1 -x264-params sliced-threads=0 out_1",
    "-i in_1 -ss 1 -t 2 -c:v gif -f gif out_1",
    "-i in_1 -vf drawtext=fontfile={{in_1}}:text=x out_1",
    "-i in_1 -vf geq=lum=" + "(" * 64 + "1" + ")" * 64 + ",setpts=PTS; out_1",
]  # fmt: skip


@pytest.mark.parametrize("command", LEGIT)
def test_usual_commands_pass(command: str) -> None:
    assert plan(command, ONE, OUT).argv("/job")


REFUSED = [
    # Names of files and addresses, wherever one could stand.
    ("-i /etc/passwd out_1", "-i /etc/passwd"),
    ("-i file:in_1 out_1", "-i file:in_1"),
    ("-i concat:in_1|in_1 out_1", "-i concat"),
    ("-i in_1 -c copy /tmp/x.mp4", "/tmp/x.mp4"),
    ("-i in_1 -", "-"),
    ("-i in_1 -- out_1", "--"),
    ("-i in_1 pipe:1", "pipe:1"),
    ("-i in_1 ./out_1", "./out_1"),
    ("-i in_1 out_1 out_1", "written twice"),
    ("-i in_1 in_1", "is an input"),
    ("-i in_1 {{in_1}}", "is an input"),
    ("-i out_1 out_1", "-i out_1"),
    ("-i in_1 {{nothing}}", "nothing"),
    ("-i {{nothing}} out_1", "nothing: this placeholder has no file in input_files"),
    ("-i in_1 -vf movie={{nothing}} out_1", "filter movie, option filename: the placeholder {{nothing}} has no file"),
    ("-i in_1 -metadata title={{in_1}} out_1", "in_1"),
    ("-i in_1 -vf drawtext=text={{in_1}} out_1", "in_1"),
    ("-i in_1 -vf scale={{in_1}} out_1", "in_1"),
    # Options that are not known, in all their spellings.
    ("-i in_1 -report out_1", "-report"),
    ("-i in_1 --report out_1", "--report"),
    ("-i in_1 -bitexact -report out_1", "-report"),
    ("-i in_1 -/filter_complex x out_1", "-/filter_complex"),
    ("-i in_1 -filter_complex_script x out_1", "-filter_complex_script"),
    ("-i in_1 -filter_comp null out_1", "-filter_comp"),
    ("-i in_1 -dump_attachment:t x out_1", "-dump_attachment"),
    ("-i in_1 -attach x out_1", "-attach"),
    ("-i in_1 -passlogfile x -pass 1 out_1", "-passlogfile"),
    ("-i in_1 -c:v libx264 -flags +cgop+pass1 out_1", "-flags: the flag 'pass1' is not allowed"),
    ("-i in_1 -c:v libxvid -flags:v pass2 out_1", "-flags:v: the flag 'pass2' is not allowed"),
    ("-i in_1 -c:v libx264 -flags 512 out_1", "-flags: the flag '512' is not allowed"),
    ("-i in_1 -c:v libx264 -flags all out_1", "-flags: the flag 'all' is not allowed"),
    ("-i in_1 -c:v libx264 -flags -cgop-max out_1", "-flags: the flag 'max' is not allowed"),
    ("-i in_1 -stats_enc_post:v x out_1", "-stats_enc_post"),
    ("-i in_1 -vstats out_1", "-vstats"),
    ("-enable_drefs 1 -use_absolute_path 1 -i in_1 out_1", "-enable_drefs"),
    ("-init_hw_device vaapi=/dev/dri/x -i in_1 out_1", "-init_hw_device"),
    ("-hwaccel auto -i in_1 out_1", "-hwaccel"),
    ("-stdin -i in_1 out_1", "-stdin"),
    ("-progress x -i in_1 out_1", "-progress"),
    ("-protocol_whitelist all -i in_1 out_1", "-protocol_whitelist"),
    ("-format_whitelist hls -i in_1 out_1", "-format_whitelist"),
    ("-max_pixels 999999999 -i in_1 out_1", "-max_pixels"),
    ("－i in_1 out_1", "－i"),
    ("-I in_1 out_1", "-I"),
    ("-nostats_file x -i in_1 out_1", "-nostats_file"),
    ("-i in_1 -crf:../x 3 out_1", "-crf:../x"),
    ("-version", "-version"),
    ("-i", "value is missing"),
    ("-i in_1 out_1 -t", "value is missing"),
    ("-i in_1 out_1 -t 5", "no file follows"),
    ("-i in_1 -t:v 5 out_1", "-t:v"),
    ("-vf null -i in_1 out_1", "-vf: this option cannot stand before an input"),
    ("-i in_1 -stream_loop 2 out_1", "-stream_loop: this option cannot stand before an output"),
    ("-i in_1 -r ٣٠/١ out_1", "-r"),
    # Formats and codecs.
    ("-f image2 -pattern_type glob -i in_1 out_1", "-pattern_type"),
    ("-f data -i in_1 out_1", "data"),
    ("-f tty -i in_1 out_1", "tty"),
    ("-f v4l2 -i in_1 out_1", "v4l2"),
    ("-i in_1 -f tee out_1", "tee"),
    ("-i in_1 -f hls out_1", "hls"),
    ("-i in_1 -f dash out_1", "dash"),
    ("-i in_1 -f fifo out_1", "fifo"),
    ("-i in_1 -f mp4,hls out_1", "mp4,hls"),
    ("-i in_1 -c:v h264_vaapi out_1", "h264_vaapi"),
    ("-i in_1 -c:v unheard_of out_1", "the codec 'unheard_of' is not allowed"),
    ("-c:v copy -i in_1 out_1", "the codec 'copy' is not allowed"),
    # Filters.
    ("-i in_1 -vf movie=/x out_1", "filter movie"),
    ("-i in_1 -vf m'o'vie=/x out_1", "filter movie"),
    ("-i in_1 -vf movie@x=/x out_1", "filter movie"),
    ("-i in_1 -filter:v:0 movie=/x out_1", "filter movie"),
    ("-f lavfi -i movie=/x out_1", "filter movie"),
    ("-i in_1 -vf movie={{in_1}}:format_name=hls out_1", "format_name"),
    ("-i in_1 -vf movie={{in_1}}:f=hls out_1", "option f"),
    ("-i in_1 -vf sendcmd=c=x out_1", "filter sendcmd"),
    ("-i in_1 -af ladspa=file=in_1 out_1", "filter ladspa"),
    ("-i in_1 -vf drawtext=textfile=/x out_1", "textfile"),
    ("-i in_1 -vf drawtext=/usr/share/fonts/x.ttf:hi:/etc/passwd out_1", "textfile"),
    ("-i in_1 -vf drawtext=/text=/etc/passwd out_1", "/text"),
    ("-i in_1 -vf drawtext=text=x:fontfile=/etc/passwd out_1", "fontfile"),
    ("-i in_1 -vf drawtext=text=x:fontfile=/usr/share/fonts/../../../etc/x.ttf out_1", "fontfile"),
    ("-i in_1 -vf \"drawtext=text=x:font='Sans\\:file=/etc/passwd'\" out_1", "font"),
    ("-i in_1 -vf drawtext=text=x:font={{in_1}} out_1", "the placeholder {{in_1}} cannot stand here"),
    ("-i in_1 -vf subtitles=in_1:fontsdir=/x out_1", "fontsdir"),
    ("-i in_1 -vf subtitles=/x.srt out_1", "only a declared input can be named here"),
    ("-i in_1 -vf curves=none:0/0:0/0:0/0:0/0:0/0:/x out_1", "psfile"),
    ("-i in_1 -vf curves=plot=/x out_1", "plot"),
    ("-i in_1 -vf lut3d=/x out_1", "lut3d"),
    ("-i in_1 -lavfi psnr=/x out_1", "stats_file"),
    ("-i in_1 -vf metadata=print:file=/x out_1", "metadata"),
    ("-i in_1 -vf scale=1:2:nonsense=3 out_1", "nonsense"),
    ("-i in_1 -vf scale=w=1:2 out_1", "no option's name"),
    ("-i in_1 -vf program_opencl out_1", "program_opencl"),
    # Encoders' own option strings.
    ("-i in_1 -x264-params stats=x out_1", "stats"),
    ("-i in_1 -x264opts qpfile=x out_1", "qpfile"),
    ("-i in_1 -x264-params keyint=5:dump-yuv=x out_1", "dump-yuv"),
    ("-i in_1 -x264-params keyint=5:dump_yuv=x out_1", "dump_yuv"),
    ("-i in_1 -x264-params 'keyint=5\\:stats=x' out_1", "x264-params"),
    ("-i in_1 -x264-params keyint=5/x out_1", "-x264-params keyint: '5/x'"),
    ("-i in_1 -x265-params csv=/o/x out_1", "-x265-params csv"),
    ("-i in_1 -x265-params lambda-file=x out_1", "lambda-file"),
    ("-i in_1 -svtav1-params stats=x out_1", "stats"),
    ("-i in_1 -bsf:v unheard_of out_1", "unheard_of"),
    ("-i in_1 -bsf:v 'null,a b=1' out_1", "filter 'a b' is not allowed"),
    ("-i in_1 -force_key_frames '1,$x' out_1", "-force_key_frames: '1,$x'"),
    ("-i in_1 -force_key_frames 'expr:while(1,1)' out_1", "while"),
    # What eats a machine.
    ("-i in_1 -threads 512 out_1", "-threads"),
    ("-i in_1 -threads auto out_1", "-threads"),
    ("-i in_1 -threads 17 out_1", "-threads"),
    ("-filter_threads 99 -i in_1 out_1", "-filter_threads"),
    ("-i in_1 -vf scale=20000:-2 out_1", "scale"),
    ("-i in_1 -s 100000x100000 out_1", "-s"),
    ("-i in_1 -s 1x1/x out_1", "-s: '1x1/x'"),
    ("-f lavfi -i testsrc=s=99999x99999:d=1 out_1", "testsrc"),
    ("-i in_1 -force_key_frames 'expr:wh ile(1,1)' out_1", "while"),
    ("-i in_1 -crf 'while(1,1)' out_1", "while"),
    ("-i in_1 -crf 'while.(1,1)' out_1", "while"),
    ("-i in_1 -crf 'taylor.(taylor.(1,1),1)' out_1", "taylor"),
    ("-i in_1 -force_key_frames 'expr:while!(1,1)' out_1", "while"),
    ("-i in_1 -vf \"scale=w='while#x(1,1)'\" out_1", "while"),
    ("-probesize 'ro ot(1,1)' -i in_1 out_1", "root"),
    ("-i in_1 -vf \"scale=w='while(1,1)'\" out_1", "while"),
    ("-i in_1 -vf \"scale=w='wh ile(1,1)'\" out_1", "while"),
    ("-i in_1 -vf \"drawtext=text='%{expr\\:whi\\\\\\\\le(1,1)}'\" out_1", "while"),
    ("-i in_1 -vf \"drawtext=text='%{eif\\:while(1,1)\\:d}'\" out_1", "while"),
    ("-i in_1 -vf geq=lum=" + "(" * 65 + "1" + ")" * 65 + " out_1", "nested"),
    ("-i in_1 -vf " + ",".join(["null"] * 300) + " out_1", "filters"),
    ("-stream_loop -1 -i in_1 -c copy out_1", "never ends"),
    ("-f lavfi -i anullsrc -i in_1 out_1", "-i number 0: this input never ends: add -t or -shortest"),
    ("-loop 1 -i in_1 -f lavfi -i anullsrc -shortest out_1", "never ends"),
    ("-f lavfi -i testsrc -f lavfi -i sine -shortest out_1", "never ends"),
    ("-stream_loop -1 -i in_1 -c copy -shortest out_1", "never ends"),
    ("-thread_queue_size 65537 -i in_1 out_1", "-thread_queue_size"),
    ("-i in_1 " * 40 + " out_1", "inputs"),
    ("-i in_1 -metadata title out_1", "-metadata: 'key=text'"),
    ("-i in_1 -metadata title=" + "x" * 5000 + " out_1", "-metadata"),
    # Two ways of saying one thing that readers could take differently.
    ("-i in_1 -vf 'null\x00' out_1", "control"),
    ("-i in_1 -map 0:v,1:a out_1", "-map"),
    ("-i in_1 -crf 23\n-report out_1", "-report"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "named"), REFUSED, ids=[command[:40] for command, _ in REFUSED])
def test_what_is_not_known_is_refused_by_name(command: str, named: str) -> None:
    inputs = {} if "in_1" not in command else ONE
    assert named in refusal(command, inputs)


@pytest.mark.parametrize(
    ("command", "name", "why"),
    [
        ("-i in_1 out_1", "x.m3u8", "its format writes several files; an output is one file"),
        ("-i in_1 out_1", "x.mpd", "its format writes several files; an output is one file"),
        ("-i in_1 -hls_time 4 -hls_flags single_file out_1", "x.m3u8", "-hls_time: its format writes several files"),
        ("-i in_1 -hls_flags single_file out_1", "x.m3u8", "-hls_flags: its format writes several files"),
        ("-i in_1 -seg_duration 4 out_1", "x.mpd", "-seg_duration: its format writes several files"),
        ("-vaapi_device /dev/dri/renderD128 -i in_1 out_1", "x.mp4", "there is no hardware acceleration here"),
        ("-i in_1 -c:v h264_nvenc out_1", "x.mp4", "there is no hardware acceleration here"),
        ("-c:v hevc_cuvid -i in_1 out_1", "x.mp4", "there is no hardware acceleration here"),
        ("-i in_1 out_1", "a#b.mp4", "at most 127 letters, digits, blanks and '_.()+,@-'"),
        ("-i in_1 -pass 1 out_1", "x.mp4", "a task has one pass; use -crf, or -b:v with -maxrate"),
        ("-f concat -safe 0 -i in_1 out_1", "x.mp4", "-safe: is of the format concat; use the filter concat"),
        ("-i in_1 -f null out_1", "x.mp4", "the format 'null' makes no file"),
        ("-i in_1 -f lavfi out_1", "x.mp4", "the format 'lavfi' is for inputs"),
        ("-i in_1 -f segment out_1", "x.mp4", "the format 'segment' writes files that were not declared"),
        ("-i in_1 -f rtp out_1", "x.mp4", "the format 'rtp' opens a network socket"),
        ("-f hls -i in_1 out_1", "x.mp4", "the format 'hls' reads or writes files that were not declared"),
        ("-f concat -i in_1 out_1", "x.mp4", "reads files that were not declared; use the filter concat"),
    ],
)
def test_a_refusal_leads_somewhere(command: str, name: str, why: str) -> None:
    assert why in refusal(command, outputs={"out_1": name})


def test_empty_is_told_as_documented() -> None:
    assert refusal("") == "No ffmpeg_command provided"
    assert refusal("  ") == "No ffmpeg_command provided"
    assert refusal("ffmpeg") == "No ffmpeg_command provided"
    assert refusal("-i in_1 out_1", outputs={}) == "No output_files provided"


def test_files_and_command_must_agree() -> None:
    assert "in_2" in refusal("-i in_1 out_1", TWO)
    assert "out_2" in refusal("-i in_1 out_1", outputs={**OUT, "out_2": "p.mp4"})
    # A key that is also a codec's name is a file only where a file is expected.
    assert "libx264" in refusal("-i in_1 -c:v libx264 out_1", {**ONE, "libx264": "http://h/x"})
    assert plan("-i libx264 -c:v libx264 out_1", {"libx264": "http://h/x.mp4"}, OUT).argv("/j").count("libx264") == 1


def test_an_unknown_name_needs_a_format() -> None:
    assert "-f" in refusal("-i in_1 out_1", outputs={"out_1": "o.xyz"})
    assert plan("-i in_1 -f mpegts out_1", ONE, {"out_1": "o.xyz"}).outputs[0].path == "out/0"


def test_a_refusal_can_be_shown_to_anybody() -> None:
    message = refusal("-i in_1 -\x1bfoo\u202e" + "x" * 500 + " out_1".replace("\x1b", ""))
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 400, "\u00b2", "\u0663", "0" * 5000, "-1", "1e999", "0x9"])
@pytest.mark.parametrize(
    "command",
    [
        "-filter_threads {} -i in_1 out_1",
        "-i in_1 -max_muxing_queue_size {} out_1",
        "-i in_1 -t {} out_1",
        "-ss {} -to {} -i in_1 -ss {} -to {} out_1",
        "-sseof -{} -stream_loop {} -i in_1 out_1",
        "-i in_1 -filter_complex trim={}:{},concat={}:{}:{} out_1",
        "-i in_1 -filter_complex [0][{}:v]xfade=offset={} out_1",
        "-i in_1 -t {}:{}:{} out_1",
        "-i in_1 -s {}x{} out_1",
        "-i in_1 -x264opts threads={} out_1",
        "-i in_1 -vf scale={}:{} out_1",
        "-i in_1 -vf scale=threads={} out_1",
        "-i in_1 -vf showcqt=s={}x{} out_1",
        "-i in_1 -vf split={} out_1",
    ],
)
def test_a_number_of_any_length_and_script_is_taken_or_refused(command: str, number: str) -> None:
    try:
        seconds = plan(command.replace("{}", number), ONE, OUT).timeline.seconds({0: 60.0})
    except CommandRefused:
        return
    assert seconds is None or seconds >= 0

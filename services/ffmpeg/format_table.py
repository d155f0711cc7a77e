"""Which containers and codecs a command may name, and which a file may turn out to be.

Input formats are allowed by name, in the plan where the command names one and by `-format_whitelist` where ffmpeg
guesses: a playlist, a manifest or a session description in a file called video.mp4 is then no input at all. Not in
the lists: whatever opens other files or addresses (hls, dash, concat, sdp, rtsp, vobsub, mlv, imf, svg), devices, and
text-art and game formats that nobody films in. Output formats write exactly the one file they are given: hls, dash,
segment, tee and their kin write more.
"""

from __future__ import annotations

import re


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_PIPES = words("""
    bmp dds dpx exr gem gif j2k jpeg jpegls jpegxl pam pbm pcx pgm pgmyuv png ppm psd qdraw qoi sgi sunrast tiff webp
    xbm xpm xwd phm pfm pictor
""")
_RAW_SOUND = words("""
    s8 s16le s16be s24le s24be s32le s32be u8 u16le u16be u24le u24be u32le u32be f32le f32be f64le f64be alaw mulaw
""")
# Names as ffmpeg registers them: a list of names is one demuxer.
_DEMUXERS = words("""
    mov,mp4,m4a,3gp,3g2,mj2 matroska,webm avi flv live_flv mpegts mpegtsraw mpeg mpegvideo ogg asf nut mxf gxf dv rm
    ivf wav w64 aiff au caf mp3 aac ac3 eac3 flac dts dtshd truehd mlp tta wv ape mpc mpc8 amr amrnb amrwb tak voc sox
    gsm h261 h263 h264 hevc vvc av1 obu m4v vc1 cavsvideo dirac dnxhd mjpeg mjpeg_2000 rawvideo yuv4mpegpipe v210 gif
    apng image2 srt ass webvtt subviewer subviewer1 sami microdvd mpl2 mpsub jacosub scc stl tedcaptions lrc
    ffmetadata wtv swf roq smjpeg avs2 avs3 film_cpk
""")

DEMUXERS = (
    frozenset(name for group in _DEMUXERS for name in group.split(","))
    | _RAW_SOUND
    | frozenset(f"{name}_pipe" for name in _PIPES)
)
"""Formats an input may have; `lavfi` is apart, because its "file" is a filter graph."""

FORMAT_WHITELIST = ",".join(sorted(DEMUXERS))
"""Value of -format_whitelist."""

INPUT_GUARD = ("-protocol_whitelist", "file", "-format_whitelist", FORMAT_WHITELIST)
"""Before each file that a command of our own reads."""

MUXERS = (
    words("""
    mp4 mov ipod 3gp 3g2 psp ismv f4v matroska webm avi flv mpegts mpeg vob dvd svcd vcd mpeg1video mpeg2video ogg oga
    ogv opus spx asf nut mxf gxf dv rm ivf wav w64 aiff au caf mp3 mp2 adts latm ac3 eac3 flac dts truehd mlp tta wv
    amr gif apng webp avif ico image2 image2pipe h261 h263 h264 hevc obu m4v vc1 dnxhd mjpeg rawvideo yuv4mpegpipe
    dirac srt ass webvtt ttml scc jacosub microdvd lrc ffmetadata md5 hash streamhash framemd5 framehash framecrc crc
""")
    | _RAW_SOUND
)
"""Formats that write one file."""

EXTENSIONS: dict[str, str] = {
    "mp4": "mp4", "m4v": "mp4", "mov": "mov", "qt": "mov", "m4a": "ipod", "m4b": "ipod", "3gp": "3gp", "3g2": "3g2",
    "mkv": "matroska", "mka": "matroska", "mks": "matroska", "webm": "webm", "weba": "webm", "avi": "avi", "flv": "flv",
    "f4v": "f4v", "ts": "mpegts", "m2ts": "mpegts", "mts": "mpegts", "mpg": "mpeg", "mpeg": "mpeg", "vob": "vob",
    "ogg": "ogg", "ogv": "ogv", "oga": "oga", "opus": "opus", "spx": "spx", "wmv": "asf", "wma": "asf", "asf": "asf",
    "nut": "nut", "mxf": "mxf", "gxf": "gxf", "dv": "dv", "ivf": "ivf",
    "wav": "wav", "w64": "w64", "aif": "aiff", "aiff": "aiff", "au": "au", "caf": "caf", "mp3": "mp3", "mp2": "mp2",
    "aac": "adts", "adts": "adts", "ac3": "ac3", "eac3": "eac3", "flac": "flac", "dts": "dts", "tta": "tta", "wv": "wv",
    "amr": "amr",
    "gif": "gif", "apng": "apng", "webp": "webp", "avif": "avif", "ico": "ico",
    "png": "image2", "jpg": "image2", "jpeg": "image2", "bmp": "image2", "tif": "image2", "tiff": "image2",
    "tga": "image2", "ppm": "image2", "pgm": "image2", "jp2": "image2", "jxl": "image2",
    "qoi": "image2", "exr": "image2",
    "h264": "h264", "264": "h264", "h265": "hevc", "hevc": "hevc", "265": "hevc", "obu": "obu", "mjpg": "mjpeg",
    "mjpeg": "mjpeg", "yuv": "rawvideo", "rgb": "rawvideo", "y4m": "yuv4mpegpipe", "m2v": "mpeg2video",
    "m1v": "mpeg1video",
    "srt": "srt", "ass": "ass", "ssa": "ass", "vtt": "webvtt", "ttml": "ttml", "lrc": "lrc", "ffmeta": "ffmetadata",
    "md5": "md5", "framemd5": "framemd5", "sw": "s16le", "ub": "u8", "al": "alaw", "ul": "mulaw",
}  # fmt: skip
"""Extension of an output's name → muxer, where the command has no -f."""

MANIFESTS = words("m3u8 mpd")
"""Extensions of formats that write more than one file."""
SEVERAL_FILES = "its format writes several files; an output is one file"

INPUT_EXTENSIONS = frozenset(EXTENSIONS) | words("""
    cube 3dl dat m3d csp rnnn ttf otf acv asv sub smi bin raw pcm
""")
"""Extensions that a local copy of an input keeps; any other becomes none."""

ENCODERS = words("""
    copy libx264 libx264rgb h264 libx265 hevc libvpx vp8 libvpx-vp9 vp9 libaom-av1 av1 libsvtav1 librav1e mpeg4
    libxvid mpeg2video mpeg1video msmpeg4 msmpeg4v2 msmpeg4v3 h261 h263 h263p flv wmv1 wmv2 libtheora theora mjpeg
    ljpeg jpegls jpeg2000 libopenjpeg libjxl jpegxl prores prores_ks prores_aw dnxhd cfhd dvvideo ffv1 ffvhuff huffyuv
    utvideo magicyuv rawvideo v210 v308 v408 v410 r210 qtrle png apng bmp tiff targa gif libwebp libwebp_anim webp pam
    pbm pgm pgmyuv ppm pcx sgi qoi exr dpx hap cinepak flashsv flashsv2 snow svq1 speedhq wrapped_avframe aac
    libfdk_aac libmp3lame mp3 libshine mp2 mp2fixed libtwolame ac3 ac3_fixed eac3 dca truehd mlp flac alac libopus
    opus libvorbis vorbis libspeex speex wavpack tta wmav1 wmav2 g722 g726 libgsm libopencore_amrnb libvo_amrwbenc
    adpcm_ima_wav adpcm_ms adpcm_ima_qt adpcm_swf aptx aptx_hd sbc s302m nellymoser pcm_s8 pcm_s16le pcm_s16be
    pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_s64le pcm_u8 pcm_u16le pcm_u16be pcm_u24le pcm_u24be pcm_u32le
    pcm_u32be pcm_f32le pcm_f32be pcm_f64le pcm_f64be pcm_alaw pcm_mulaw pcm_bluray pcm_dvd mov_text srt subrip ass
    ssa webvtt text ttml dvbsub dvdsub dvd_subtitle dvb_subtitle
""")
"""Values of -c before an output; hardware encoders open devices and are not here."""

HARDWARE_CODEC = re.compile(r"[a-z0-9]+_(?:nvenc|cuvid|vaapi|qsv|amf|videotoolbox|v4l2m2m|vulkan|omx|mf|mediacodec)")
"""A codec that a device would run."""
NO_HARDWARE = "there is no hardware acceleration here"

DECODERS = ENCODERS - {"copy"} | words("""
    libdav1d libvpx hevc h264 vc1 vp6 vp6f theora dirac mpegvideo aac_fixed aac_latm dts amrnb amrwb ape
    pcm_s16le_planar pcm_bluray pgssub hdmv_pgs_subtitle eia_608 cc_dec subviewer microdvd sami jacosub mp3float mp1
    mp2float
""")
"""Values of -c before an input."""

BITSTREAM_FILTERS = words("""
    aac_adtstoasc av1_frame_merge av1_frame_split av1_metadata dump_extra dca_core eac3_core extract_extradata
    filter_units h264_metadata h264_mp4toannexb h264_redundant_pps hevc_metadata hevc_mp4toannexb mjpeg2jpeg
    mjpegadump mp3decomp mpeg2_metadata mpeg4_unpack_bframes mov2textsub text2movsub noise null opus_metadata
    pcm_rechunk pgs_frame_merge prores_metadata remove_extra setts truehd_core vp9_metadata vp9_raw_reorder
    vp9_superframe vp9_superframe_split chomp imxdump dv_error_marker
""")
"""None of them has an option that names a file."""

ENCODER_PARAMS: dict[str, frozenset[str]] = {
    "x264": words("""
        keyint min-keyint scenecut intra-refresh bframes b-adapt b-bias b-pyramid open-gop cabac no-cabac ref deblock
        no-deblock slices slices-max slice-max-size slice-max-mbs slice-min-mbs interlaced tff bff constrained-intra
        pulldown fake-interlaced qp bitrate crf rc-lookahead vbv-maxrate vbv-bufsize vbv-init crf-max qpmin qpmax
        qpstep ratetol ipratio pbratio chroma-qp-offset aq-mode aq-strength mbtree no-mbtree qcomp cplxblur qblur
        partitions direct weightb no-weightb weightp me merange mvrange mvrange-thread subme psy-rd psy no-psy
        mixed-refs no-mixed-refs chroma-me no-chroma-me 8x8dct no-8x8dct trellis fast-pskip no-fast-pskip dct-decimate
        no-dct-decimate nr deadzone-inter deadzone-intra level profile preset tune nal-hrd filler pic-struct
        stitchable bluray-compat overscan videoformat fullrange range colorprim transfer colormatrix chromaloc
        alternative-transfer aud sar force-cfr threads lookahead-threads sliced-threads sync-lookahead no-scenecut
        mastering-display cll frame-packing non-deterministic annexb log psnr no-psnr ssim no-ssim
    """),
    "x265": words("""
        keyint min-keyint scenecut no-scenecut scenecut-bias open-gop no-open-gop bframes b-adapt b-pyramid
        no-b-pyramid bframe-bias rc-lookahead gop-lookahead lookahead-slices ref limit-refs ctu min-cu-size
        max-tu-size tu-intra-depth tu-inter-depth limit-tu rect no-rect amp no-amp limit-modes early-skip
        no-early-skip rskip fast-intra b-intra cu-lossless tskip rd rd-refine rdoq-level psy-rd psy-rdoq dynamic-rd me
        subme merange max-merge temporal-mvp weightp no-weightp weightb no-weightb strong-intra-smoothing
        no-strong-intra-smoothing constrained-intra signhide no-signhide deblock no-deblock sao no-sao sao-non-deblock
        limit-sao selective-sao crf crf-max crf-min bitrate qp lossless vbv-maxrate vbv-bufsize vbv-init vbv-end
        aq-mode aq-strength aq-motion hevc-aq cutree no-cutree qcomp qpstep qpmin qpmax ipratio pbratio qblur cplxblur
        strict-cbr rc-grain const-vbv cbqpoffs crqpoffs nr-intra nr-inter profile level-idc level high-tier
        no-high-tier preset tune uhd-bd allow-non-conformance info no-info hrd aud repeat-headers no-repeat-headers
        annexb hash vui-timing-info temporal-layers interlace field colorprim transfer colormatrix range chromaloc sar
        overscan videoformat master-display max-cll min-luma max-luma hdr10 hdr10-opt hdr-opt frame-dup wpp no-wpp
        pools frame-threads slices pmode pme copy-pic log-level psnr ssim frames fps input-depth output-depth
        lookahead-threads
    """),
    "svtav1": words("""
        preset crf qp rc tbr mbr keyint irefresh-type scd lookahead hierarchical-levels pred-struct tune film-grain
        film-grain-denoise enable-dlf enable-cdef enable-restoration enable-tpl-la enable-overlays enable-tf aq-mode
        fast-decode tile-rows tile-columns scm lp pin superres-mode superres-denom enable-qm qm-min qm-max max-qp
        min-qp input-depth profile level tier color-primaries transfer-characteristics matrix-coefficients color-range
        chroma-sample-position mastering-display content-light enable-hdr buf-sz buf-initial-sz buf-optimal-sz
        bias-pct undershoot-pct overshoot-pct recode-loop gop-constraint-rc sharpness enable-variance-boost
    """),
    "aom": words("""
        cpu-used end-usage cq-level min-q max-q undershoot-pct overshoot-pct buf-sz buf-initial-sz buf-optimal-sz
        kf-max-dist kf-min-dist lag-in-frames row-mt tile-columns tile-rows enable-cdef enable-restoration aq-mode
        deltaq-mode enable-qm qm-min qm-max enable-chroma-deltaq enable-fwd-kf enable-keyframe-filtering sharpness
        tune tune-content arnr-maxframes arnr-strength enable-tpl-model enable-dual-filter enable-global-motion
        film-grain-test denoise-noise-level denoise-block-size sb-size enable-palette enable-intrabc error-resilient
        color-primaries transfer-characteristics matrix-coefficients
    """),
    "rav1e": words("""
        speed quantizer tiles tile_rows tile_cols tune key_frame_interval min_key_frame_interval reservoir_frame_delay
        low_latency rdo_lookahead_frames switch_frame_interval error_resilient min_quantizer bitrate
    """),
}  # fmt: skip
"""Keys of the encoders' own option strings that name no file: `stats`, `csv`, `dump-yuv` and the like are not here."""
PARAMS_OF = {
    "x264opts": "x264",
    "x264-params": "x264",
    "x265-params": "x265",
    "svtav1-params": "svtav1",
    "aom-params": "aom",
    "rav1e-params": "rav1e",
}
"""Option → which set of keys."""

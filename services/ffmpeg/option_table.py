"""Every option that a command may use: whether it takes a value, where it may stand, what the value may be.

An option that is not here does not run, whatever it is; `tests/unit/ffmpeg/test_option_table.py` holds the arity
against the installed binaries. Native options are ffmpeg's own (ffmpeg_opt.c); the others are AVOptions of codecs,
muxers, demuxers and scalers, which always take a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, Flag, auto

from services.ffmpeg.format_table import NO_HARDWARE, SEVERAL_FILES, words


class Where(Flag):
    """What an option may stand before."""

    INPUT = auto()
    OUTPUT = auto()
    GLOBAL = auto()
    FILE = INPUT | OUTPUT


class Value(Enum):
    """What follows an option."""

    NONE = auto()
    """Nothing: the option is a switch."""
    PLAIN = auto()
    """A number, rate, time, flags or name."""
    TEXT = auto()
    """Free text that is written into the output: `-metadata title=…`."""
    SIZE = auto()
    """WxH or a size's name."""
    THREADS = auto()
    """A number up to 16, cut to the limit of threads."""
    COUNT = auto()
    """A number up to 65 536: lengths of queues."""
    MAP = auto()
    """`0:v:0`, `-0:s`, `[label]`."""
    CODEC = auto()
    """`copy` or an allowed encoder; before an input, a decoder."""
    FORMAT = auto()
    """An allowed muxer; before an input, a demuxer."""
    GRAPH = auto()
    """A filter graph."""
    BITSTREAM_FILTERS = auto()
    """A list of bitstream filters."""
    ENCODER_PARAMS = auto()
    """`key=value:…` of x264, x265, SVT-AV1, aom or rav1e."""
    CODEC_FLAGS = auto()
    """Names of a codec's flags with + and -, but no number, which could mean any of them."""
    KEY_FRAMES = auto()
    """Times, `source`, or `expr:…`."""
    IGNORED = auto()
    """A value that is read and dropped: what it asks for is the service's own business."""
    IGNORED_SWITCH = auto()
    """The same without a value."""


@dataclass(frozen=True)
class OptionRule:
    """One option."""

    name: str
    value: Value
    where: Where
    specifier: bool
    """A stream specifier may follow, as in `-b:v:0`."""

    @property
    def arity(self) -> int:
        """How many arguments follow it: 0 or 1."""
        return 0 if self.value in (Value.NONE, Value.IGNORED_SWITCH) else 1


_NATIVE: tuple[tuple[Value, Where, bool, str], ...] = (
    (Value.IGNORED_SWITCH, Where.GLOBAL, False, "y n hide_banner stats nostats nostdin re"),
    (Value.IGNORED, Where.GLOBAL, False, "loglevel v stats_period"),
    (Value.NONE, Where.GLOBAL, False, "copyts start_at_zero ignore_unknown copy_unknown xerror"),
    (Value.THREADS, Where.GLOBAL, False, "filter_threads filter_complex_threads"),
    (Value.GRAPH, Where.GLOBAL, False, "filter_complex lavfi"),
    (Value.PLAIN, Where.GLOBAL, False, "vsync async max_error_rate dts_delta_threshold dts_error_threshold copytb"),
    (Value.NONE, Where.FILE, False, "vn an sn dn bitexact"),
    (Value.NONE, Where.INPUT, False, "accurate_seek noaccurate_seek noautorotate nofind_stream_info fix_sub_duration"),
    (Value.NONE, Where.OUTPUT, False, "shortest noautoscale"),
    (Value.NONE, Where.OUTPUT, True, "copyinkf force_fps"),
    (Value.FORMAT, Where.FILE, False, "f"),
    (Value.CODEC, Where.FILE, True, "c codec"),
    (Value.CODEC, Where.FILE, False, "vcodec acodec scodec"),
    (Value.PLAIN, Where.FILE, False, "t to ss sseof"),
    (Value.PLAIN, Where.INPUT, False, "itsoffset stream_loop seek_timestamp isync"),
    (Value.PLAIN, Where.INPUT, True, "itsscale guess_layout_max discard"),
    (Value.COUNT, Where.FILE, False, "thread_queue_size"),
    (Value.COUNT, Where.OUTPUT, True, "max_muxing_queue_size"),
    (Value.PLAIN, Where.OUTPUT, True, "muxing_queue_data_threshold"),
    (Value.PLAIN, Where.FILE, True, "r ar ac pix_fmt sample_fmt channel_layout ch_layout tag"),
    (Value.PLAIN, Where.FILE, False, "vtag atag stag"),
    (Value.SIZE, Where.FILE, True, "s"),
    (Value.SIZE, Where.OUTPUT, False, "canvas_size"),
    (
        Value.PLAIN,
        Where.OUTPUT,
        True,
        """
            frames q qscale profile aspect fpsmax fps_mode disposition bits_per_raw_sample time_base enc_time_base
            intra_matrix inter_matrix chroma_intra_matrix rc_override apad copypriorss
        """,
    ),
    (
        Value.PLAIN,
        Where.OUTPUT,
        False,
        "vframes aframes dframes fs map_chapters muxdelay muxpreload timecode timestamp streamid aq ab",
    ),
    # ffmpeg's own help lists these two without a specifier.
    (Value.PLAIN, Where.OUTPUT, True, "map_metadata b"),
    (Value.MAP, Where.OUTPUT, False, "map"),
    (Value.TEXT, Where.OUTPUT, True, "metadata program"),
    (Value.GRAPH, Where.OUTPUT, True, "filter"),
    (Value.GRAPH, Where.OUTPUT, False, "vf af"),
    (Value.BITSTREAM_FILTERS, Where.OUTPUT, True, "bsf"),
    (Value.KEY_FRAMES, Where.OUTPUT, True, "force_key_frames"),
)

_AV_OPTIONS: tuple[tuple[Value, Where, str], ...] = (
    (Value.THREADS, Where.FILE, "threads"),
    (Value.CODEC_FLAGS, Where.FILE, "flags"),
    # What every codec knows.
    (
        Value.PLAIN,
        Where.FILE,
        "flags2 err_detect ec strict thread_type skip_frame skip_loop_filter skip_idct lowres idct",
    ),
    (Value.PLAIN, Where.FILE, "color_primaries color_trc colorspace color_range chroma_sample_location field_order"),
    (
        Value.PLAIN,
        Where.OUTPUT,
        """
            bt g bf refs qmin qmax qdiff qcomp qblur i_qfactor i_qoffset b_qfactor b_qoffset maxrate minrate bufsize
            rc_init_occupancy me_range subq cmp subcmp mbcmp ildctcmp dia_size trellis keyint_min sc_threshold mbd
            compression_level level global_quality slices cutoff frame_size dct coder context mblmin mblmax lumi_mask
            dark_mask p_mask bidir_refine
        """,
    ),
    # libx264, libx265.
    (
        Value.PLAIN,
        Where.OUTPUT,
        """
            preset tune crf crf_max qp aq-mode aq-strength psy psy-rd rc-lookahead weightb weightp ssim intra-refresh
            bluray-compat b-bias b-pyramid mixed-refs 8x8dct fast-pskip aud mbtree deblock cplxblur partitions
            direct-pred slice-max-size nal-hrd me_method motion-est forced-idr chromaoffset b_strategy noise_reduction
            udu_sei a53cc fastfirstpass wpredp
        """,
    ),
    (Value.ENCODER_PARAMS, Where.OUTPUT, "x264opts x264-params x265-params svtav1-params aom-params rav1e-params"),
    # libvpx, libaom, SVT-AV1, rav1e.
    (
        Value.PLAIN,
        Where.OUTPUT,
        """
            deadline quality cpu-used speed auto-alt-ref lag-in-frames arnr-maxframes arnr-strength arnr-type
            arnr_max_frames arnr_strength arnr_type rc_lookahead row-mt tile-columns tile-rows frame-parallel
            static-thresh max-intra-rate error-resilient noise-sensitivity sharpness tune-content undershoot-pct
            overshoot-pct lossless corpus-complexity enable-tpl drop-threshold usage tiles still-picture
            denoise-noise-level denoise-block-size enable-cdef enable-restoration enable-global-motion enable-intrabc
            rc tier sc_detection la_depth tile_columns tile_rows
        """,
    ),
    # Sound and stills.
    (
        Value.PLAIN,
        Where.OUTPUT,
        """
            aac_coder aac_ms aac_is aac_pns aac_tns aac_ltp aac_pred vbr application frame_duration packet_loss fec
            mapping_family apply_phase_inv reservoir joint_stereo abr iblock lpc_coeff_precision lpc_type lpc_passes
            min_partition_order max_partition_order ch_mode exact_rice_parameters multi_dim_quant min_prediction_order
            max_prediction_order dialnorm center_mixlev surround_mixlev dsur_mode room_type mixing_level copyright
            original dpi dpm pred huffman cr_threshold cr_size gifflags vendor mbs_per_slice bits_per_mb quant_mat
            alpha_bits intra_vlc mpeg_quant data_partitioning obmc mpv_flags slicecrc
        """,
    ),
    # Muxers.
    (
        Value.PLAIN,
        Where.OUTPUT,
        """
            movflags brand frag_duration frag_size min_frag_duration frag_interleave video_track_timescale
            movie_timescale write_tmcd write_prft write_btrt use_editlist moov_size skip_iods empty_hdlr_name
            use_stream_ids_as_track_ids rtpflags mpegts_transport_stream_id mpegts_original_network_id
            mpegts_service_id mpegts_service_type mpegts_pmt_start_pid mpegts_start_pid mpegts_m2ts_mode mpegts_flags
            mpegts_copyts muxrate pes_payload_size pat_period sdt_period pcr_period tables_version
            omit_video_pes_length reserve_index_space cluster_size_limit cluster_time_limit live default_mode
            cues_to_front allow_raw_vfw flipped_raw_rgb write_crc32 id3v2_version write_id3v1 write_id3v2 write_xing
            write_apetag flvflags final_delay loop update avoid_negative_ts flush_packets
            output_ts_offset pagesize page_duration serial_offset write_bext write_peak rf64 write_header packetsize
            max_delay preload plays default_delay max_interleave_delta
        """,
    ),
    (Value.PLAIN, Where.FILE, "fflags"),
    # Demuxers.
    (
        Value.PLAIN,
        Where.INPUT,
        """
            framerate pixel_format sample_rate channels loop probesize analyzeduration fpsprobesize ignore_editlist
            advanced_editlist ignore_chapters ignore_loop min_delay max_gif_delay default_delay scan_all_pmts
            resync_size seek2any skip_initial_bytes correct_ts_overflow sub_charenc sub_charenc_mode subfps
            raw_packet_size usetoc
        """,
    ),
    (Value.SIZE, Where.INPUT, "video_size"),
    # Scaler and resampler.
    (Value.PLAIN, Where.OUTPUT, "sws_flags sws_dither swr_flags resampler dither_method"),
)

REFUSED_BECAUSE = {
    "report": "writes a log file of its own",
    "progress": "is the service's own channel",
    "pass": "a task has one pass; use -crf, or -b:v with -maxrate",
    "dump_attachment": "writes files that were not declared",
    "readrate": "files are read as fast as they can be processed",
    "stdin": "there is no standard input",
    "safe": "is of the format concat; use the filter concat",
    **dict.fromkeys(
        words("passlogfile attach filter_complex_script filter_script vpre apre spre fpre pre"), "names a file"
    ),
    **dict.fromkeys(words("protocol_whitelist format_whitelist max_pixels"), "is set by the service"),
    **dict.fromkeys(
        words("hwaccel hwaccel_device hwaccel_output_format init_hw_device filter_hw_device vaapi_device qsv_device"),
        NO_HARDWARE,
    ),
    **dict.fromkeys(
        words("""
            hls_time hls_init_time hls_list_size hls_flags hls_playlist_type hls_segment_type hls_segment_filename
            hls_fmp4_init_filename hls_base_url hls_key_info_file master_pl_name var_stream_map seg_duration
            adaptation_sets use_template use_timeline init_seg_name media_seg_name segment_time segment_format
            segment_list segment_times
        """),
        SEVERAL_FILES,
    ),
}


def _rules() -> Iterator[OptionRule]:
    for value, where, specifier, names in _NATIVE:
        for name in names.split():
            yield OptionRule(name, value, where, specifier)
    for value, where, names in _AV_OPTIONS:
        for name in names.split():
            yield OptionRule(name, value, where, specifier=True)


OPTIONS: dict[str, OptionRule] = {}
for _rule in _rules():
    _known = OPTIONS.get(_rule.name)
    # One name may be an option of a demuxer and of a muxer: `loop`, `default_delay`.
    OPTIONS[_rule.name] = replace(_known, where=_known.where | _rule.where) if _known else _rule

SPECIFIER = re.compile(r"(?::[A-Za-z0-9_#-][A-Za-z0-9_#.-]*)*")

"""Client channels: the one place that decides deadlines, retries, keepalive and balancing."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import grpc
from reelway.v1 import catalog_pb2, ffmpeg_pb2, library_pb2, signing_pb2, stream_pb2, transcript_pb2, upload_pb2

from services.common.settings import Settings, refuse

MESSAGE_LIMIT = 4 * 2**20 + 2**16
"""Largest message either side takes: 4 MiB of payload and its header."""

LOOKAHEAD_BYTES = 2**19
"""Bytes of a stream that are received before they are read."""

CALL_SECONDS = 10.0
"""Deadline of a unary call, its retries included."""

TRANSPORT_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # Measured: with probing on, the flow-control window grows to 6-39 MiB towards each slow reader.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    # HTTP/2's default of 16 KiB a frame costs a fifth more CPU with messages of a MiB.
    ("grpc.http2.max_frame_size", 2**20),
]

_FILES = (catalog_pb2, ffmpeg_pb2, library_pb2, signing_pb2, stream_pb2, transcript_pb2, upload_pb2)
# What the protos declare idempotent. Nothing else is retried: where only the first answer was lost, a second try would
# do the work twice, or be refused because of the first.
_IDEMPOTENT = [
    {"service": service.full_name, "method": method.name}
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.GetOptions().idempotency_level
]


def _service_config(*, serving_only: bool = True) -> str:
    # A replica that says NOT_SERVING (it drains, or lost its store) gets no new calls.
    healthy = {"healthCheckConfig": {"serviceName": ""}} if serving_only else {}
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            **healthy,
            "methodConfig": [
                {
                    "name": _IDEMPOTENT,
                    "retryPolicy": {
                        "maxAttempts": 4,
                        "initialBackoff": "0.05s",
                        "maxBackoff": "1s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ],
            "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        }
    )


def target_of(addresses: str) -> str:
    """A gRPC target: one of any scheme as it is, or a comma list of the IPv4 address:port of several replicas."""
    return f"ipv4:{addresses}" if "," in addresses else addresses


def open_channel(addresses: str, settings: Settings | None = None, *, serving_only: bool = True) -> grpc.aio.Channel:
    """A channel to every replica behind `addresses`; lazy, lives as long as the process.

    Without `serving_only` also to those that are not ready, to ask them why.

    In Kubernetes the address is `dns:///name-headless:port`, which names each pod. With GRPC_TLS_… set in `settings`
    both sides show certificates.
    """
    options: list[tuple[str, int | str]] = [
        *TRANSPORT_OPTIONS,
        ("grpc.service_config", _service_config(serving_only=serving_only)),
        # A proxy that the environment names is not for calls between our own processes.
        ("grpc.enable_http_proxy", 0),
        # A process that hangs leaves the rotation before its calls reach CALL_SECONDS, and they are retried elsewhere.
        # Pings must not come more often than servers allow (server.py).
        ("grpc.keepalive_time_ms", 6_000),
        # Not keepalive_timeout_ms, with which a ping waits a minute for its answer.
        ("grpc.http2.ping_timeout_ms", 3_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Despite its name the time-out of a connection's handshake: a busy replica needs more than a moment.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if settings is None or not settings.grpc_tls_cert_file:
        return grpc.aio.insecure_channel(target_of(addresses), options=options)
    key, certificate, authority = tls_files(settings)
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    return grpc.aio.secure_channel(target_of(addresses), credentials, options=options)


def tls_files(settings: Settings) -> tuple[bytes, bytes, bytes]:
    """Key, certificate and CA of this process; ends the process with one line where they cannot be used.

    gRPC itself would blame the address, dump core, or connect to nobody without a word.
    """
    key, certificate = Path(settings.grpc_tls_key_file), Path(settings.grpc_tls_cert_file)
    authority = Path(settings.grpc_tls_ca_file)
    try:
        files = key.read_bytes(), certificate.read_bytes(), authority.read_bytes()
        # The password is for OpenSSL, which would ask the terminal for that of an encrypted key.
        ssl.create_default_context(cafile=authority).load_cert_chain(certificate, key, password="")
    except OSError as error:
        refuse(f"GRPC_TLS_…_FILE: no certificate, its key and a CA (PEM): {error}")
    return files

"""Client channels: the one place that decides deadlines, retries, keepalive and balancing."""

from __future__ import annotations

import json
from collections.abc import Sequence

import grpc

MESSAGE_LIMIT = 4 * 2**20 + 2**16
"""Largest message either side takes: 4 MiB of payload and its header."""

CALL_SECONDS = 10.0
"""Deadline of a unary call, its retries included."""

TRANSPORT_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # Measured: with probing on, the flow-control window grows to 6-39 MiB towards each slow reader.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 2**20),
]

_IDEMPOTENT = [
    {"service": "reelway.v1.StreamService", "method": "Stat"},
    {"service": "reelway.v1.StreamService", "method": "ReadRange"},
    {"service": "reelway.v1.StreamService", "method": "PresignRead"},
    {"service": "reelway.v1.CatalogService"},
    {"service": "reelway.v1.FfmpegService", "method": "CheckHealth"},
    {"service": "reelway.v1.FfmpegService", "method": "PlanTask"},
    {"service": "reelway.v1.FfmpegService", "method": "GetTask"},
    {"service": "reelway.v1.FfmpegService", "method": "ListTasks"},
    {"service": "reelway.v1.FfmpegService", "method": "GetQueueStats"},
]


def _service_config() -> str:
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            # A replica that says NOT_SERVING (it drains, or lost its store) gets no new calls.
            "healthCheckConfig": {"serviceName": ""},
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
    """A gRPC target from one target of any scheme, or from a comma list of host:port of several replicas."""
    return f"ipv4:{addresses}" if "," in addresses else addresses


def open_channel(addresses: str, interceptors: Sequence[grpc.aio.ClientInterceptor] = ()) -> grpc.aio.Channel:
    """A channel to every replica behind `addresses`; lazy, lives as long as the process.

    In Kubernetes the address is `dns:///name-headless:port`, which names each pod.
    """
    return grpc.aio.insecure_channel(
        target_of(addresses),
        options=[
            *TRANSPORT_OPTIONS,
            ("grpc.service_config", _service_config()),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.dns_min_time_between_resolutions_ms", 5_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
        interceptors=interceptors,
    )

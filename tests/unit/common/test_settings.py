"""Settings: aliases, files, units, and refusals of one line."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.settings import GatewaySettings
from services.catalog.settings import CatalogSettings
from services.common.redis_client import connect
from services.common.settings import RedisSettings, S3Settings, load, parse_size
from services.ffmpeg.settings import FrontSettings, WorkerSettings
from services.stream.settings import StreamSettings
from services.upload.settings import UploadSettings


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET", "videos")


def refusal(settings_class: type, capsys: pytest.CaptureFixture[str]) -> str:
    """What the operator reads; the process would end with status 2."""
    with pytest.raises(SystemExit) as end:
        load(settings_class)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("S3_BUCKET", "s3_bucket"),
        ("AWS_BUCKET_NAME", "s3_bucket"),
        ("AWS_REGION", "aws_region"),
        ("AWS_REGION_NAME", "aws_region"),
        ("s3_bucket", "s3_bucket"),
    ],
)
def test_both_names_of_a_setting_count(monkeypatch: pytest.MonkeyPatch, name: str, field: str) -> None:
    monkeypatch.setenv("AWS_BUCKET_NAME", "videos")
    monkeypatch.setenv(name, "given")
    assert getattr(load(S3Settings), field) == "given"


def test_the_newer_name_wins_over_its_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BUCKET_NAME", "old")
    monkeypatch.setenv("S3_BUCKET", "new")
    assert load(S3Settings).s3_bucket == "new"


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_BUCKET_NAME"])
def test_a_value_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bucket: None, name: str) -> None:
    if name == "AWS_BUCKET_NAME":
        monkeypatch.delenv("S3_BUCKET")
    (tmp_path / "secret").write_text("from-a-file\n")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    settings = load(S3Settings)
    value = settings.s3_bucket if name == "AWS_BUCKET_NAME" else getattr(settings, name.lower())
    assert (value.get_secret_value() if isinstance(value, SecretStr) else value) == "from-a-file"


def test_a_plain_value_wins_over_its_file(monkeypatch: pytest.MonkeyPatch, bucket: None) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "plain")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID_FILE", "/nowhere")
    assert load(S3Settings).aws_access_key_id == "plain"


def test_an_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_BUCKET", "")
    monkeypatch.setenv("AWS_BUCKET_NAME", "videos")
    monkeypatch.setenv("AWS_REGION", "")
    settings = load(S3Settings)
    assert (settings.s3_bucket, settings.aws_region) == ("videos", "us-east-1")


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("settings_class", "name", "value"),
    [
        (UploadSettings, "LOG_LEVEL", "LOUD"),
        (UploadSettings, "LOG_FORMAT", "xml"),
        (UploadSettings, "EVENT_LOOP", "trio"),
        (UploadSettings, "GRPC_LISTEN", "50051"),
        (UploadSettings, "GRPC_LISTEN", ":50051"),
        (UploadSettings, "GRPC_LISTEN", "127.0.0.1:99999"),
        (UploadSettings, "METRICS_LISTEN", "nine"),
        (UploadSettings, "METRICS_LISTEN", "127.0.0.1:70000"),
        (UploadSettings, "DRAIN_SECONDS", "-1"),
        (UploadSettings, "DRAIN_SECONDS", "soon"),
        (UploadSettings, "DRAIN_SECONDS", "inf"),
        (UploadSettings, "INGEST_INTERVAL_SECONDS", "inf"),
        (UploadSettings, "UPLOAD_LEASE_SECONDS", "0"),
        (UploadSettings, "UPLOAD_SWEEP_INTERVAL_SECONDS", "0"),
        (UploadSettings, "REDIS_TIMEOUT_SECONDS", "0"),
        (UploadSettings, "MAX_CONNECTION_AGE_SECONDS", "2592000"),
        (UploadSettings, "S3_READ_SECONDS", "2592000"),
        (UploadSettings, "REDIS_URL", "http://127.0.0.1"),
        (UploadSettings, "REDIS_URL", "redis://127.0.0.1:port/0"),
        (UploadSettings, "REDIS_URL", "redis://127.0.0.1:6379/videos"),
        (UploadSettings, "REDIS_URL", "redis://[::1/0"),
        (UploadSettings, "REDIS_URL", "redis://:12#34@redis.example.com:6379/0"),
        (UploadSettings, "REDIS_URL", "redis://:12?34@redis.example.com:6379/0"),
        (UploadSettings, "UPLOAD_MAX_BYTES", "0"),
        (UploadSettings, "UPLOAD_MAX_BYTES", "200GiB"),
        (UploadSettings, "UPLOAD_MAX_BYTES", "8 furlongs"),
        (UploadSettings, "UPLOAD_BUFFER_BYTES", "35MiB"),
        (UploadSettings, "LIBRARY_MAX_BYTES", "6GiB"),
        (UploadSettings, "JOIN_MAX_BYTES", "6GiB"),
        (UploadSettings, "SIGN_SECONDS", "86401"),
        (UploadSettings, "SIGN_SECONDS", "604801"),
        (UploadSettings, "LIBRARY_SIGNED_SECONDS", "59"),
        (UploadSettings, "S3_ENDPOINT_URL", "127.0.0.1:9000"),
        (UploadSettings, "S3_ENDPOINT_URL", "http://127.0.0.1:port"),
        (UploadSettings, "S3_PUBLIC_ENDPOINT_URL", "ftp://store"),
        (CatalogSettings, "CATALOG_SWEEP_INTERVAL_SECONDS", "x"),
        (CatalogSettings, "CATALOG_SWEEP_INTERVAL_SECONDS", "0"),
        (StreamSettings, "STREAM_ACCESS_TTL_SECONDS", "3"),
        (StreamSettings, "STREAM_BUFFER_BYTES", "7MiB"),
        (CatalogSettings, "TRANSCRIBE_ENGINE", "a b"),
        (CatalogSettings, "TRANSCRIBE_LANGUAGE", "english"),
        (WorkerSettings, "TRANSCRIBE_LANGUAGE", "english"),
        (WorkerSettings, "JOB_KILL_SECONDS", "20"),
        (WorkerSettings, "OUTPUT_URL_SECONDS", "604801"),
        (WorkerSettings, "TRANSCRIBE_ENV", "HTTPS_PROXY=http://proxy:3128,cuda"),
        (GatewaySettings, "PORT", "99999"),
        (GatewaySettings, "UPLOAD_MAX_BYTES", "1TiB"),
        (GatewaySettings, "APPEND_MAX_BYTES", "6GiB"),
        (GatewaySettings, "ANONYMOUS_ACCESS", "maybe"),
        (GatewaySettings, "PLAYBACK_MODE", "teleport"),
        (GatewaySettings, "ACCESS_TTL_SECONDS", "60"),
        (GatewaySettings, "REDIRECT_SECONDS", "604801"),
        (GatewaySettings, "UNREAD_ANSWER_BYTES", "63MiB"),
        (GatewaySettings, "AUTH_JWKS_URL", "ldap://keys"),
        (GatewaySettings, "AUTH_ALGORITHMS", "rs256"),
        (GatewaySettings, "AUTH_ALGORITHMS", ","),
        (GatewaySettings, "CORS_ORIGINS", "app.example.com"),
        (GatewaySettings, "CORS_ORIGINS", "http://localhost:5173, https://app.example.com/"),
        (GatewaySettings, "CORS_ORIGINS", "https://*.example.com"),
    ],
)
def test_a_wrong_value_is_refused_by_name_on_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings_class: type,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv(name, value)
    told = refusal(settings_class, capsys)
    assert told.count("\n") == 1
    assert name in told


@pytest.mark.usefixtures("bucket")
def test_nought_is_taken_where_it_says_something_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of nought would keep a processor busy, and a limit of nought refuse everybody."""
    taken = set()
    for settings_class in (
        UploadSettings,
        StreamSettings,
        CatalogSettings,
        FrontSettings,
        WorkerSettings,
        GatewaySettings,
    ):
        for field, info in settings_class.model_fields.items():
            if info.annotation in (int, float):
                with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
                    patch.setenv(field.upper(), "0")
                    load(settings_class)
                    taken.add(field)
    assert taken == {
        "port",
        "drain_seconds",
        "drain_notice_seconds",
        "next_request_seconds",
        "auth_jwks_ttl_seconds",
        "access_ttl_seconds",
        "stream_access_ttl_seconds",
        "block_cache_bytes",
        "upload_orphan_seconds",
        "library_signed_seconds",
        "catalog_sweep_grace_seconds",
        "job_backoff_seconds",
        "job_outage_seconds",
        "job_keep_seconds",
        "job_keep_failed_seconds",
        "job_running_per_owner",
        "slots_command",
        "slots_probe",
        "slots_join",
        "slots_transcribe",
        "transcribe_min_timeout_seconds",
    }


@pytest.mark.parametrize(
    "option", ["socket_timeout=soon", "ssl_ca_cert=/etc/ca.pem", "ssl_cert_reqs=some", "db=videos"]
)
def test_an_option_that_a_redis_url_cannot_have_ends_the_process_with_one_line(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit):
        connect(RedisSettings(redis_url=f"rediss://redis.example.com:6379/0?{option}"))
    told = capsys.readouterr().err
    assert told.startswith("settings: REDIS_URL: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"SERVICE_TOKEN_SECRET": "x" * 31}, "32 bytes"),
        ({"GRPC_TLS_CERT_FILE": "cert.pem", "GRPC_TLS_KEY_FILE": "key.pem"}, "all three or none"),
        ({"AUTH_JWT_SECRET": "short"}, "32 bytes"),
        ({"AUTH_JWT_SECRET": "x" * 32, "AUTH_JWKS_URL": "https://idp/jwks"}, "exclude each other"),
        ({"AUTH_JWKS_URL": "https://idp/jwks", "AUTH_ALGORITHMS": "RS256,none"}, "AUTH_ALGORITHMS"),
        ({"AUTH_JWKS_URL": "https://idp/jwks", "AUTH_ALGORITHMS": "HS256"}, "AUTH_ALGORITHMS"),
    ],
)
def test_unsafe_identity_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: dict[str, str], word: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = refusal(GatewaySettings, capsys)
    assert told.startswith(tuple(f"settings: {name}" for name in environment))
    assert word in told
    assert told.count("\n") == 1


def test_each_fault_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    lines = refusal(S3Settings, capsys).splitlines()
    assert len(lines) == 2
    assert any("S3_BUCKET" in line for line in lines)


def test_a_refusal_does_not_tell_the_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTH_JWT_SECRET", "hunter2")
    assert "hunter2" not in refusal(GatewaySettings, capsys)


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00binary"])
def test_a_file_that_cannot_be_read_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: bytes | None,
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY_FILE", str(path))
    told = refusal(S3Settings, capsys)
    assert "AWS_SECRET_ACCESS_KEY_FILE" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("8388608", 8_388_608), ("8MiB", 2**23), ("8 mib", 2**23), ("1GB", 10**9), ("3b", 3), ("2TiB", 2**41)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["8 parsecs", "-1", "1.5GiB", "2G", "MiB"])
def test_what_is_no_size_is_refused_with_the_way_to_write_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setenv("UPLOAD_MAX_BYTES", text)
    assert refusal(GatewaySettings, capsys) == "settings: UPLOAD_MAX_BYTES: not a size such as 8388608, 8MiB or 8 MB\n"


def test_settings_cannot_be_changed(monkeypatch: pytest.MonkeyPatch, bucket: None) -> None:
    settings, name = load(S3Settings), "s3_bucket"
    with pytest.raises(Exception, match="frozen"):
        setattr(settings, name, "other")


def test_the_public_endpoint_is_the_internal_one_unless_given(monkeypatch: pytest.MonkeyPatch, bucket: None) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://store:9000/")
    assert load(S3Settings).public_endpoint == "http://store:9000"
    monkeypatch.setenv("S3_PUBLIC_ENDPOINT_URL", "https://cdn.example/")
    settings = load(S3Settings)
    assert (settings.endpoint, settings.public_endpoint) == ("http://store:9000", "https://cdn.example")
    monkeypatch.delenv("S3_ENDPOINT_URL")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert load(S3Settings).endpoint == "https://s3.eu-north-1.amazonaws.com"


def test_a_process_without_its_bucket_ends_with_status_2_and_one_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services.stream"], check=False, capture_output=True, text=True, env={}, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == ["settings: S3_BUCKET: Field required"]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("listen", ["127.0.0.9:1", "localhost:1", "[::1]:1"])
def test_on_loopback_no_secret_is_needed(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("GRPC_LISTEN", listen)
    assert load(UploadSettings).grpc_listen == listen


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "127.evil.example:1", "unix.example:1"])
def test_elsewhere_one_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], listen: str) -> None:
    monkeypatch.setenv("GRPC_LISTEN", listen)
    with pytest.raises(SystemExit):
        load(UploadSettings)
    assert "SERVICE_TOKEN_SECRET" in capsys.readouterr().err

"""Whether what we were pointed to, and this machine, can be used: what cannot is said here, in one line."""

import redis.asyncio
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from redis.exceptions import RedisError

from deploy.local.keys import Keys
from deploy.local.process import StartError
from deploy.local.settings import LocalSettings
from services.common.aws_session import new_session
from services.ffmpeg.isolation import Mode, detect_layers

SECONDS = 5.0  # for an answer


def check_isolation(mode: Mode) -> None:
    """Check that this kernel has the layers that ffmpeg's processes want in this mode.

    Raises:
        StartError: it lacks one: they would never get ready.
    """
    missing = detect_layers().missing
    if missing and mode is Mode.STRICT:
        raise StartError(
            f"this kernel has no {' and no '.join(missing)}, which ffmpeg is to be isolated with (docs/isolation.md); "
            "ISOLATION=best-effort does without"
        )


async def check_redis(url: str) -> None:
    """Check that Redis answers PING.

    Raises:
        StartError: it does not.
    """
    try:
        async with redis.asyncio.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
            await client.ping()
    except (RedisError, OSError, TypeError, ValueError) as error:
        raise StartError(f"REDIS_URL: no Redis answers there: {error}") from error


async def check_bucket(settings: LocalSettings, keys: Keys) -> None:
    """Returns where the bucket is there and our keys may look at it.

    Raises:
        StartError: S3 does not answer, refuses the keys, or has no such bucket.
    """
    config = AioConfig(
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
        connect_timeout=SECONDS,
        read_timeout=SECONDS,
        proxies={},  # as the services do
    )
    try:
        async with new_session().create_client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            aws_access_key_id=keys.access_key or None,
            aws_secret_access_key=keys.secret_key or None,
            aws_session_token=keys.session_token or None,
            region_name=settings.aws_region,
            config=config,
        ) as client:
            await client.head_bucket(Bucket=settings.s3_bucket)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise StartError(f"S3_BUCKET: there is no bucket {settings.s3_bucket!r} at S3_ENDPOINT_URL") from error
        raise StartError(
            f"S3_ENDPOINT_URL: S3 answers {status} for the bucket {settings.s3_bucket!r}; are the keys right?"
        ) from error
    except NoCredentialsError as error:
        raise StartError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: the S3 of S3_ENDPOINT_URL wants them") from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise StartError(f"S3_ENDPOINT_URL: no S3 answers there: {error}") from error

"""A bucket that is in another region than AWS_REGION says."""

import pytest
from aiohttp import web
from botocore.exceptions import ClientError
from structlog.testing import capture_logs

from services.common.s3_objects import S3Objects
from tests.support.http_server import serving
from tests.support.servers import S3Server

WHY = "the region 'us-east-1' is wrong; expecting 'eu-west-1'"


@pytest.mark.parametrize("tells", [True, False])
async def test_a_bucket_of_another_region_is_said_and_not_served(tells: bool) -> None:
    """The SDK would go where the store says, and be ready; what is signed elsewhere would all be refused.

    Whoever asks says why, and how often: this is asked three times a second as long as it fails.
    """

    async def elsewhere(request: web.Request) -> web.Response:
        if "/eu-west-1/s3/" in request.headers["Authorization"]:
            return web.Response()
        if request.method == "HEAD":
            return web.Response(status=400, headers={"x-amz-bucket-region": "eu-west-1"} if tells else {})
        error = f"<Code>AuthorizationHeaderMalformed</Code><Message>{WHY}</Message><Region>eu-west-1</Region>"
        return web.Response(status=400, text=f"<Error>{error}</Error>")

    async with serving(elsewhere) as port:
        settings = S3Server.at(f"http://127.0.0.1:{port}").settings
        async with S3Objects.open(settings) as objects:
            with capture_logs() as lines, pytest.raises(ClientError, match=WHY):
                await objects.check()
    assert not lines

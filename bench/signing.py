"""Presigned S3 URLs, so that a bare socket can speak to S3 and to a proxy in front of it."""

import urllib.parse
from dataclasses import dataclass

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

LIFE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Signer:
    """Signs for one endpoint (`http://host:port`) with one key pair."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str

    @property
    def host(self) -> str:
        """What the Host header must say: it is part of the signature."""
        return urllib.parse.urlsplit(self.endpoint).netloc

    def presign(self, method: str, path: str, query: dict[str, str] | None = None) -> str:
        """Give path and query of a signed request for `path` (with its leading slash); the payload is unsigned."""
        url = self.endpoint + urllib.parse.quote(path)
        if query:
            url += "?" + urllib.parse.urlencode(query)
        request = AWSRequest(method=method, url=url)
        credentials = Credentials(self.access_key, self.secret_key)
        S3SigV4QueryAuth(credentials, "s3", self.region, expires=LIFE_SECONDS).add_auth(request)
        parts = urllib.parse.urlsplit(request.url)
        return f"{parts.path}?{parts.query}"

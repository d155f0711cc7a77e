"""How many requests the embedded S3 server has answered, from its own counters."""

import re
import time
import urllib.request
from collections.abc import Mapping

import jwt

_TOTAL = re.compile(r'^minio_s3_requests_total\{api="(?!listbuckets")[^}]*\} (\S+)$', re.MULTILINE)
_SECONDS = 10.0


def requests_answered(storage: Mapping[str, str]) -> int:
    """Since it started, of everybody. `storage` says where it is, as it tells a server (bench.storage.Storage.env).

    The server gives its counters to whoever has a token that is signed with its secret key (MinIO, "Metrics and
    alerts").
    """
    claims = {"sub": storage["AWS_ACCESS_KEY_ID"], "iss": "prometheus", "exp": int(time.time()) + 3600}
    token = jwt.encode(claims, storage["AWS_SECRET_ACCESS_KEY"], algorithm="HS512")
    url = storage["S3_ENDPOINT_URL"] + "/minio/v2/metrics/cluster"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        text = answer.read().decode()
    return sum(int(float(count)) for count in _TOTAL.findall(text))

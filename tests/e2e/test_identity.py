"""Who calls: every kind of token, every mode of anonymous access, over gateways of the started system.

| rule | test |
|---|---|
| no token: works unless the deployment says read or deny | test_without_a_token |
| deny leaves health and the documentation open | test_pages_that_need_no_user_are_open_where_all_else_is_denied |
| in 003, explore, user and watch allow anonymous | test_the_library_s_front_is_open_in_every_mode |
| a bad token is 401 everywhere, never anonymous | test_a_bad_token_is_401_everywhere |
| `exp` is required, `alg` is pinned | test_a_bad_token_is_401_everywhere, test_a_token_of_another_algorithm |
| keys from a JWKS URL, rotated | test_keys_of_a_key_server, tests/integration/test_keys.py |
| `aud` and `iss` are checked when configured | test_audience_and_issuer |
| what a holder creates is theirs | test_what_a_holder_creates_is_theirs |
"""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from multidict import CIMultiDict

from tests.support.http_server import serving
from tests.support.key_server import AUDIENCE, ISSUER, KeyServer
from tests.support.system import RunningSystem
from tests.support.videos_api import VideosApi, catalog_side, more, several, videos_api


@pytest.fixture(scope="module")
async def key_server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    server.add("first")
    server.add("curve", "ES256")
    server.add("encryption")
    async with serving(server.answer) as port:
        server.url = f"http://127.0.0.1:{port}/jwks"
        yield server


@dataclass
class Gateways:
    """One of each mode."""

    full: VideosApi
    read: VideosApi
    deny: VideosApi
    jwks: VideosApi

    def all(self) -> dict[str, VideosApi]:
        return vars(self)


@pytest.fixture(scope="module")
async def gateways(system: RunningSystem, key_server: KeyServer) -> AsyncIterator[Gateways]:
    keys = {"AUTH_JWT_SECRET": "", "AUTH_JWKS_URL": key_server.url, "AUTH_AUDIENCE": AUDIENCE, "AUTH_ISSUER": ISSUER}
    async with (
        several(
            more(system, "gateway", ANONYMOUS_ACCESS="read"),
            more(system, "gateway", ANONYMOUS_ACCESS="deny"),
            more(system, "gateway", **keys),
        ) as (read, deny, jwks),
        videos_api(system.base_url) as full_api,
        videos_api(f"http://{read.listen}") as read_api,
        videos_api(f"http://{deny.listen}") as deny_api,
        videos_api(f"http://{jwks.listen}") as jwks_api,
    ):
        yield Gateways(full_api, read_api, deny_api, jwks_api)


@pytest.fixture(scope="module")
async def video_id(gateways: Gateways, mp4: bytes) -> str:
    return await gateways.full.new_video(mp4)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_without_a_token(gateways: Gateways, video_id: str, mp4: bytes) -> None:
    path = f"/videos/{video_id}/stream"
    statuses = {
        mode: [
            (await api.get(path)).status,
            (await api.head(path)).status,
            (await api.upload(mp4)).status,
            (await api.get("/health")).status,
            (await api.get("/openapi.json")).status,
            # It tells versions, and what the kernel lacks.
            (await api.get("/health/isolation")).status,
            # It only begins like what is open.
            (await api.get("/video/watchers")).status,
        ]
        for mode, api in gateways.all().items()
    }
    assert statuses == {
        "full": [200, 200, 201, 200, 200, 200, 404],
        "read": [200, 200, 401, 200, 200, 200, 404],
        "deny": [401, 401, 401, 200, 200, 401, 401],
        "jwks": [200, 200, 201, 200, 200, 200, 404],
    }


async def test_pages_that_need_no_user_are_open_where_all_else_is_denied(gateways: Gateways) -> None:
    paths = ("/", "/health_check", "/ffmpeg/health", "/ready", "/docs", "/redoc", "/static/docs.js")
    refused = [path for path in paths if (await gateways.deny.get(path)).status == 401]
    assert refused == []


async def test_the_library_s_front_is_open_in_every_mode(gateways: Gateways) -> None:
    """Its document says who needs a token, so the deployment's word on the others is none on it."""
    statuses = {
        mode: [
            (await api.get("/video/explore")).status,
            (await api.get("/video/user/nobody-at-all/")).status,
            (await api.get(f"/video/watch?user_id=nobody&hash_id={uuid4()}")).status,
            (await api.get("/video/my")).status,
            (await api.get("/video/upload/config")).status,
        ]
        for mode, api in gateways.all().items()
    }
    assert set(map(tuple, statuses.values())) == {(200, 404, 404, 401, 401)}, statuses


async def test_a_refusal_tells_how_to_come_in(gateways: Gateways, video_id: str) -> None:
    reply = await gateways.deny.get(f"/videos/{video_id}/stream")
    assert (reply.json, reply.headers["WWW-Authenticate"]) == ({"detail": "Unauthorized"}, "Bearer")
    assert reply.headers["X-Request-Id"]


async def test_with_a_token_everything_works_in_every_mode(
    gateways: Gateways, system: RunningSystem, video_id: str, mp4: bytes
) -> None:
    headers = system.authorization()
    for api in (gateways.full, gateways.read, gateways.deny):
        assert (await api.upload(mp4, headers)).status == 201
        assert (await api.call("GET", f"/videos/{video_id}/stream", headers)).body == mp4


async def test_a_browser_may_ask_before_it_has_shown_its_token(gateways: Gateways) -> None:
    """A CORS preflight never carries credentials (Fetch, 4.8)."""
    for api in gateways.all().values():
        asked = {"Origin": "https://player.example", "Access-Control-Request-Method": "POST"}
        reply = await api.call("OPTIONS", "/videos", asked)
        assert reply.status in {200, 204}
        assert reply.headers["Access-Control-Allow-Origin"]
    # Neither is one without the other.
    for method, headers in (("GET", {"Access-Control-Request-Method": "GET"}), ("OPTIONS", {})):
        assert (await gateways.deny.call(method, "/videos", headers)).status == 401


def unsigned(claims: dict[str, Any], algorithm: str, **headers: str) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': algorithm, 'typ': 'JWT'} | headers)}.{part(claims)}."


def bad_headers(secret: str) -> dict[str, str]:
    """Each with the one thing that is wrong with it."""
    now = int(time.time())
    good = {"sub": "anna", "exp": now + 60}

    def signed(claims: dict[str, Any], key: str = secret, algorithm: str = "HS256") -> str:
        return f"Bearer {jwt.encode(claims, key, algorithm)}"

    token = signed(good)
    return {
        "garbage": "Bearer garbage",
        "nothing": "Bearer ",
        "no scheme": token.removeprefix("Bearer "),
        "another scheme": token.replace("Bearer", "Basic"),
        "empty": "",
        "expired": signed(good | {"exp": now - 120}),
        "no exp": signed({"sub": "anna"}),
        "no sub": signed({"exp": now + 60}),
        "empty sub": signed(good | {"sub": ""}),
        "long sub": signed(good | {"sub": "x" * 256}),
        "half a character": signed(good | {"sub": "\ud83c"}),
        "not yet": signed(good | {"nbf": now + 600}),
        "another secret": signed(good, "y" * 64),
        "another hash": signed(good, algorithm="HS512"),
        "none": f"Bearer {unsigned(good, 'none')}",
        "None": f"Bearer {unsigned(good, 'None')}",
        "no signature": f"Bearer {unsigned(good, 'HS256')}",
        "cut off": token[:-2],
        "changed": token.replace(token.split(".")[1], unsigned(good | {"sub": "berta"}, "HS256").split(".")[1]),
        "two": f"{token}, {token}",
        "endless": "Bearer " + "x" * 7000,
    }


async def test_a_bad_token_is_401_everywhere(
    gateways: Gateways, system: RunningSystem, video_id: str, mp4: bytes
) -> None:
    """Also where nobody at all would have been let in."""
    secret = system.process("gateway").env["AUTH_JWT_SECRET"]
    for wrong, header in bad_headers(secret).items():
        headers = {"Authorization": header}
        for api in (gateways.full, gateways.read):
            got = await api.call("GET", f"/videos/{video_id}/stream", headers)
            assert (wrong, got.status) == (wrong, 401)
            assert got.json == {"detail": "Unauthorized"}
        assert (wrong, (await gateways.full.upload(mp4, headers)).status) == (wrong, 401)
        assert (await gateways.full.call("GET", "/health", headers)).status == 401


async def test_of_two_tokens_none_counts(gateways: Gateways, system: RunningSystem, video_id: str) -> None:
    token = system.authorization(uuid4())["Authorization"]
    for first, second in ((token, "Bearer bad"), ("Bearer bad", token), (token, token)):
        headers = CIMultiDict([("Authorization", first), ("Authorization", second)])
        assert (await gateways.full.call("GET", f"/videos/{video_id}/stream", headers)).status == 401


async def test_keys_of_a_key_server(gateways: Gateways, key_server: KeyServer, video_id: str) -> None:
    path = f"/videos/{video_id}/stream"
    for token in (key_server.token("first"), key_server.token("curve", "ES256")):
        assert (await gateways.jwks.call("GET", path, bearer(token))).status == 200


async def test_a_token_of_another_algorithm(
    gateways: Gateways, key_server: KeyServer, system: RunningSystem, video_id: str
) -> None:
    """The public key as an HS256 secret, the local secret, an algorithm that is not allowed, another key's id, a key
    that is published for something else."""
    path = f"/videos/{video_id}/stream"
    public = (
        key_server.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    claims = {"sub": "anna", "exp": int(time.time()) + 60, "aud": AUDIENCE, "iss": ISSUER}
    head, body, _ = unsigned(claims, "HS256", kid="first").split(".")
    mac = hmac.digest(public, f"{head}.{body}".encode(), "sha256")
    confused = f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
    for token in (
        confused,
        system.token(),
        key_server.token("first", "RS512"),
        key_server.token("first", published_as="curve"),
        key_server.token("first", published_as="unknown"),
        key_server.token("encryption"),
        jwt.encode(claims, key_server.keys["first"], "RS256"),
        unsigned(claims, "none"),
    ):
        assert (await gateways.jwks.call("GET", path, bearer(token))).status == 401


async def test_audience_and_issuer(gateways: Gateways, key_server: KeyServer, video_id: str) -> None:
    path = f"/videos/{video_id}/stream"
    for claims in ({"aud": "another"}, {"aud": None}, {"iss": "https://evil.example"}, {"iss": None}):
        token = key_server.token("first", **claims)
        assert (await gateways.jwks.call("GET", path, bearer(token))).status == 401
    several_audiences = key_server.token("first", aud=["another", AUDIENCE])
    assert (await gateways.jwks.call("GET", path, bearer(several_audiences))).status == 200


async def test_what_a_holder_creates_is_theirs(gateways: Gateways, system: RunningSystem, mp4: bytes) -> None:
    user = uuid4()
    hers = await gateways.full.new_video(mp4, system.authorization(user))
    nobody_s = await gateways.full.new_video(mp4)
    async with catalog_side(system) as catalog:
        assert (await catalog.get(hers)).owner == str(user)
        assert (await catalog.get(nobody_s)).owner == ""

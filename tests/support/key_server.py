"""Where the keys of tokens are told, as an identity provider does."""

import asyncio
import json
import re
import time
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "reelway-tests"
ISSUER = "https://idp.example"


class KeyServer:
    """Publishes keys, and signs with them."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.fetched = 0
        self.broken = False
        self.url = ""

    def add(self, key_id: str, kind: str = "RS256") -> None:
        self.keys[key_id] = (
            rsa.generate_private_key(public_exponent=65_537, key_size=2048)
            if kind == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )

    def token(self, key_id: str, algorithm: str = "RS256", published_as: str = "", **claims: Any) -> str:
        told = {"sub": "anna", "exp": int(time.time()) + 60, "aud": AUDIENCE, "iss": ISSUER} | claims
        told = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(told, self.keys[key_id], algorithm, headers={"kid": published_as or key_id})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.fetched += 1
        if self.broken:
            raise web.HTTPInternalServerError
        published = []
        for key_id, key in self.keys.items():
            algorithm: Any = (
                jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
            )
            use = "enc" if key_id == "encryption" else "sig"
            published.append(json.loads(algorithm.to_jwk(key.public_key())) | {"kid": key_id, "use": use})
        # A key set of any length comes in pieces.
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        for piece in re.findall(r".{1,200}", json.dumps({"keys": published})):
            await answer.write(piece.encode())
            await asyncio.sleep(0.005)
        return answer

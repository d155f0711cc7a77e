"""Every operation of /openapi.json is asked what it was and was not made for: no 5xx, no status that is not published.

`make fuzz` is the long run, with 300 examples an operation, as a user and as nobody; here each operation gets some.
"""

import asyncio
import os
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.system import RunningSystem

EXAMPLES = int(os.environ.get("EXAMPLES", "12"))
SECONDS_AN_EXAMPLE = 12
IDENTITIES = ["user", "anonymous"] if EXAMPLES > 20 else ["user"]


@pytest.mark.timeout(120 + SECONDS_AN_EXAMPLE * EXAMPLES)
@pytest.mark.parametrize("identity", IDENTITIES)
async def test_no_answer_that_is_not_published(system: RunningSystem, tmp_path: Path, identity: str) -> None:
    schemathesis = Path(sys.executable).parent / "schemathesis"
    arguments = ["run", f"{system.base_url}/openapi.json", "--mode", "all", "--phases", "fuzzing", "--no-color"]
    arguments += ["--checks", "not_a_server_error,status_code_conformance", "--continue-on-failure"]
    arguments += ["--max-examples", str(EXAMPLES), "--request-timeout", "20", "--seed", "1", "--workers", "2"]
    # An open event stream is no answer that ends.
    arguments += ["--exclude-path-regex", "/ffmpeg/events/.*"]
    if identity == "user":
        arguments += ["--header", f"Authorization: {system.authorization(uuid4())['Authorization']}"]
    process = await asyncio.create_subprocess_exec(
        *(str(schemathesis), *arguments),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-8000:]
    assert b"operations" in output.lower()

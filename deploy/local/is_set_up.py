"""Whether .venv is this folder's and has what it is to have; `python -I deploy/local/is_set_up.py` ends with 0 then.

The stamps of `make` stay when the folder is moved or copied, whose .venv still names the old one, and when the system's
Python is upgraded, which finds nothing of what was installed for the one before. Asked each time, so it imports little.
`-I`: the modules beside this file are not to hide the standard library's.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

GEN = Path(__file__).resolve().parents[2] / "gen"
IMPORTED = ("pip", "grpc", "aiohttp", "redis", "pydantic_settings")


def is_set_up() -> bool:
    """Whether it is; that `reelway` is found tells that this package itself is installed."""
    try:
        from reelway.v1 import upload_pb2  # noqa: PLC0415 - what is asked here
    except Exception:
        # Not there, of another version of protobuf, or for another Python.
        return False
    return Path(upload_pb2.__file__).resolve().is_relative_to(GEN) and all(map(find_spec, IMPORTED))


if __name__ == "__main__":
    sys.exit(not is_set_up())

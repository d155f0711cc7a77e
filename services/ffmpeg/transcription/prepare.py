"""`python -m services.ffmpeg.transcription.prepare`: has the configured model ready before the first job needs it.

For image builds and init containers: with TRANSCRIBE_CACHE_DIR on a volume that workers may then mount read-only.
It runs with the caller's whole environment (proxies, certificates), which a job's child does not get.
"""

from __future__ import annotations

import sys

from services.common.settings import load
from services.ffmpeg.transcription.engines import make_engine
from services.ffmpeg.transcription.failure import TranscriptionError
from services.ffmpeg.transcription.settings import TranscribeSettings


def main() -> None:
    """Opens the engine once; exits with 1 and one line where it cannot."""
    try:
        engine = make_engine(load(TranscribeSettings).engine_config())
        try:
            engine.open()
            print(f"{engine.name}: {engine.model} is ready")  # noqa: T201 - the command's answer
        finally:
            engine.close()
    except (TranscriptionError, OSError) as error:
        print(f"transcription: {error}", file=sys.stderr)  # noqa: T201 - the command's answer
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()

"""Uploads by multipart form, as curl -F and browsers send them."""

from pathlib import Path

from bench import load
from bench.load import Load

BOUNDARY = "----bench-9f1d0c5e7a3b48"


def send_form(address: tuple[str, int], source: Path) -> Load:
    """POST a file to /videos as the only field of a form, `video`."""
    before = (
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="video"; filename="{source.name}"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    )
    after = f"\r\n--{BOUNDARY}--\r\n"
    length = len(before) + source.stat().st_size + len(after)
    head = (
        f"POST /videos HTTP/1.1\r\nHost: bench\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return load.send(address, head, source, before, after)

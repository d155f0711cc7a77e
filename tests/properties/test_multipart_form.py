"""Forms in random chunks, against the parts they were made of and against aiohttp's own reader."""

from __future__ import annotations

import asyncio
import itertools
from unittest.mock import Mock

from aiohttp import MultipartReader, StreamReader
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.invalid_request import InvalidRequestError
from gateway.multipart_form import MultipartForm

# Short, and close to what the data below is made of: partial matches everywhere.
BOUNDARY = "-b-"
_NEAR_MISSES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n--b", b"\r\n---b", b"--b-", b"b", b"\0x"]),
    max_size=30,
).map(b"".join)
_CONTENT = (_NEAR_MISSES | st.binary(max_size=200)).filter(lambda data: b"\r\n---b-" not in b"\r\n" + data)
_PARTS = st.lists(st.tuples(st.sampled_from(["video", "other"]), _CONTENT), max_size=5)


class Chunks:
    """A body that arrives in given pieces, and then ends."""

    def __init__(self, body: bytes, cuts: list[int]) -> None:
        edges = [0, *sorted({cut % (len(body) + 1) for cut in cuts}), len(body)]
        self.left = [body[a:b] for a, b in itertools.pairwise(edges) if a < b]

    async def read(self) -> bytes:
        return self.left.pop(0) if self.left else b""


def encode(parts: list[tuple[str, bytes]], preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    body = preamble + b"\r\n" if preamble else b""
    for name, data in parts:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'
        body += head.encode() + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode() + epilogue


async def videos(body: bytes, cuts: list[int]) -> list[bytes]:
    form = MultipartForm(Chunks(body, cuts), f"multipart/form-data; boundary={BOUNDARY}", files=("video",))
    found = []
    while (part := await form.next_file()) is not None:
        pieces = [bytes(piece) async for piece in part]
        assert all(pieces), "no empty pieces"
        found.append(b"".join(pieces))
    return found


@given(
    parts=_PARTS,
    cuts=st.lists(st.integers(0, 3000), max_size=40),
    preamble=st.sampled_from([b"", b"hello", b"\r\n", b"--b", b"--"]),
    epilogue=st.sampled_from([b"", b"bye", b"\r\n---b-\r\nnot a part"]),
)
def test_files_come_out_as_they_went_in(
    parts: list[tuple[str, bytes]], cuts: list[int], preamble: bytes, epilogue: bytes
) -> None:
    expected = [data for name, data in parts if name == "video"]
    body = encode(parts, preamble, epilogue)
    assert asyncio.run(videos(body, cuts)) == expected
    assert asyncio.run(videos(body, list(range(len(body))))) == expected, "one byte at a time"


@given(parts=_PARTS.filter(bool), cuts=st.lists(st.integers(0, 3000), max_size=40))
def test_agrees_with_aiohttp(parts: list[tuple[str, bytes]], cuts: list[int]) -> None:
    async def theirs() -> list[bytes]:
        stream = StreamReader(Mock(_reading_paused=False), 2**16, loop=asyncio.get_running_loop())
        stream.feed_data(body)
        stream.feed_eof()
        headers = CIMultiDict({"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})
        found = []
        async for part in MultipartReader(headers, stream):
            assert not isinstance(part, MultipartReader)
            assert part is not None
            data = bytes(await part.read())
            if part.name == "video":
                found.append(data)
        return found

    body = encode(parts)
    assert asyncio.run(videos(body, cuts)) == asyncio.run(theirs())


@given(parts=_PARTS.filter(bool), cuts=st.lists(st.integers(0, 3000), max_size=10), data=st.data())
def test_a_form_cut_short_is_never_taken_for_whole(
    parts: list[tuple[str, bytes]], cuts: list[int], data: st.DataObject
) -> None:
    body = encode(parts)
    # The line break behind the closing delimiter is not needed.
    short = body[: data.draw(st.integers(0, len(body) - 3))]
    try:
        asyncio.run(videos(short, cuts))
    except InvalidRequestError as error:
        assert error.errors[0].loc == ["body"]
    else:
        raise AssertionError("a form without its end was taken")

"""Forms as browsers, curl and attackers send them."""

from __future__ import annotations

import pytest

from gateway import multipart_form
from gateway.header_parameters import parse_parameters
from gateway.invalid_request import InvalidRequestError
from gateway.multipart_form import MultipartForm

CURL = "multipart/form-data; boundary=------------------------d74496d66958873e"


class Body:
    """A body that is there at once."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    async def read(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


def form(
    *parts: bytes,
    boundary: str = "B",
    closing: bytes = b"--B--\r\n",
    texts: tuple[str, ...] | None = None,
    field_bytes: int = 2**20,
) -> MultipartForm:
    body = b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + closing
    content_type = f"multipart/form-data; boundary={boundary}"
    return MultipartForm(Body(body), content_type, files=("video",), texts=texts, field_bytes=field_bytes)


def part(disposition: str, data: bytes = b"data", *headers: str) -> bytes:
    lines = [f"Content-Disposition: {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data


async def test_as_curl_sends_it() -> None:
    mark = b"--------------------------d74496d66958873e"
    body = (
        mark + b'\r\nContent-Disposition: form-data; name="title"\r\n\r\nmy trip\r\n' + mark
        + b'\r\nContent-Disposition: form-data; name="video"; filename="clip.mp4"\r\nContent-Type: video/mp4\r\n\r\n'
        b"\0\0\0 ftypisom\r\n" + mark + b"--\r\n"
    )  # fmt: skip
    read = MultipartForm(Body(body[:200], body[200:]), CURL, files={"video"})
    file = await read.next_file()
    assert file is not None
    assert file.filename == "clip.mp4"
    assert b"".join([bytes(piece) async for piece in file]) == b"\0\0\0 ftypisom"
    assert await read.finish() == {"title": "my trip"}


async def test_chunks_pass_through_uncopied() -> None:
    # Each ends as a delimiter might begin, and does not.
    chunks = [bytes([n]) * 100_000 + b"\rx\r\n-x" for n in range(3)]
    head = b'--B\r\nContent-Disposition: form-data; name="video"\r\n\r\n'
    body = Body(head, *chunks, b"\r\n--B--\r\n")
    file = await MultipartForm(body, "multipart/form-data; boundary=B", files=("video",)).next_file()
    assert file is not None
    pieces = [piece async for piece in file]
    assert all(piece is chunk for piece, chunk in zip(pieces, chunks, strict=True))


async def test_a_file_that_is_not_read_is_skipped() -> None:
    read = form(
        part('form-data; name="video"; filename="1"', b"x" * 1000),
        part('form-data; name="attachment"; filename="other"', b"y" * 1000),
        part('form-data; name="video"; filename="2"', b"second"),
        part('form-data; name="note"', b"n"),
    )
    assert await read.next_file() is not None
    second = await read.next_file()
    assert second is not None
    assert second.filename == "2"
    assert await read.next_file() is None
    assert await read.next_file() is None
    assert read.fields == {"note": "n"}


async def test_a_file_too_many_is_not_lost_behind_a_success() -> None:
    read = form(
        part('form-data; name="video"; filename="1"'),
        part('form-data; name="attachment"; filename="other"'),
        part('form-data; name="video"; filename="2"'),
    )
    assert await read.next_file() is not None
    with pytest.raises(InvalidRequestError, match="more than one file"):
        await read.finish()


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="video"', None),
        ('form-data; name="video"; filename=""', ""),
        ("form-data; name=video; filename=a.mp4", "a.mp4"),
        ('FORM-DATA; NAME="video"; FileName="a.mp4"', "a.mp4"),
        ('form-data; filename="a; name=x.mp4"; name="video"', "a; name=x.mp4"),
        ('form-data; name="video"; filename="größe 漢.mp4"', "größe 漢.mp4"),
        ('form-data; name="video"; filename="a%22b.mp4"', 'a"b.mp4'),
        (r'form-data; name="video"; filename="a\"b.mp4"', 'a"b.mp4'),
        (r'form-data; name="video"; filename="C:\path\a.mp4"', r"C:\path\a.mp4"),
        ('form-data; name="video"; filename="x"; filename*=UTF-8\'\'gr%C3%B6%C3%9Fe.mp4', "größe.mp4"),
        ('form-data; name="video"; filename*=utf-8\'de\'%e2%82%ac.mp4; filename="x"', "€.mp4"),
        ('form-data; name="video"; filename="x"; filename*=klingon\'\'%00', "x"),
        ('form-data; name="video"; filename="x"; filename*=UTF-8\'%61.mp4', "x"),
        ("form-data; name=video; filename*=ISO-8859-1''%A3.mp4", "£.mp4"),
        ("form-data; name=video; filename*=UTF-8''%FF.mp4", "\ufffd.mp4"),
        ("form-data; name=video; filename*=UTF-8''a; filename*=UTF-8''b", "a"),
        ("form-data ; name=video ; filename=a.mp4 ", "a.mp4"),
        # A quote that nothing closes is a part of the name.
        ('form-data; name=video; filename="', '"'),
        ('form-data; name=video; filename="a', '"a'),
    ],
)
async def test_names(disposition: str, filename: str | None) -> None:
    file = await form(part(disposition)).next_file()
    assert file is not None
    assert file.filename == filename


def test_parameters() -> None:
    assert parse_parameters('Multipart/Form-Data; boundary="a b"; x=1; X=2') == (
        "multipart/form-data",
        {"boundary": "a b", "x": "1"},
    )
    assert parse_parameters("") == ("", {})


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=B",
        'multipart/form-data; boundary="B"',
        "Multipart/Form-Data; charset=utf-8; Boundary=B",
    ],
)
async def test_boundary_notations(content_type: str) -> None:
    body = Body(b"--B \t\r\n" + part('form-data; name="n"', b"v") + b"\r\n--B--")
    assert await MultipartForm(body, content_type).finish() == {"n": "v"}


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/mixed; boundary=B"])
def test_other_types(content_type: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        MultipartForm(Body(), content_type)
    assert (caught.value.errors[0].loc, caught.value.errors[0].type) == (["header", "content-type"], "content_type")


async def test_a_field_is_text_of_its_own_charset() -> None:
    """Apache's client for Java sends ISO-8859-1 where nobody asks for another."""
    latin = part('form-data; name="n"', b"\xe9", "Content-Type: text/plain; charset=ISO-8859-1")
    others = ["text/plain", "text/plain; charset=us-ascii", "text/plain; charset=nobodys"]
    utf8 = [part('form-data; name="m"', "é".encode(), f"Content-Type: {each}") for each in others]
    assert list((await form(latin, *utf8).finish()).values()) == ["é"] * 4


@pytest.mark.parametrize("boundary", ["", '""', "x" * 71, "bö", '"a "', "a\x00b"])
def test_bad_boundaries(boundary: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        MultipartForm(Body(), f"multipart/form-data; boundary={boundary}")
    assert caught.value.errors[0].type == "multipart_invalid"


@pytest.mark.parametrize(
    ("malformed", "words"),
    [
        (form(closing=b""), "without its closing boundary"),
        (form(closing=b"no form at all"), "without its closing boundary"),
        (form(part('form-data; name="video"'), closing=b""), "without its closing boundary"),
        (form(part('form-data; name="video"'), closing=b"--B"), "without its closing boundary"),
        (form(part('form-data; name="video"'), closing=b"--Bogus\r\n"), "followed by something else"),
        (form(part('form-data; filename="a"')), "no Content-Disposition"),
        (form(part('attachment; name="video"')), "no Content-Disposition"),
        (form(b"\r\ndata"), "no Content-Disposition"),
        (form(b"what is this\r\n\r\ndata"), "without a colon"),
        (form(part('form-data; name="n"', b"", "Content-Transfer-Encoding: base64")), "not supported"),
        (form(part('form-data; name="n"', b"\xff")), "Not text of its charset"),
        (form(part('form-data; name="n"', b"\xff", "Content-Type: text/plain; charset=UTF-8")), "Not text of its"),
        (form(part('form-data; name="n"', b"\xff", "Content-Type: text/plain; charset=nobodys")), "Not text of its"),
        (form(part('form-data; name="n"', b"", "X: " + "x" * 9000)), "too long headers"),
        (form(part('form-data; name="n"', b"", *["X: y"] * 3000)), "too long headers"),
        (form(*[part('form-data; name="n"')] * 101), "too many parts"),
        (
            form(*[part('form-data; name="n"')] * 4, field_bytes=15),
            "fields of the form are too long",
        ),
        (form(closing=b"x" * 70_000 + b"\r\n--B--"), "does not begin with its boundary"),
    ],
)
async def test_malformed(malformed: MultipartForm, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        while await malformed.next_file() is not None:
            pass


async def test_as_much_as_the_limits_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    disposition = b'Content-Disposition: form-data; name="n"'
    for name, most in (("_MOST_PARTS", 3), ("_PART_HEADER_BYTES", len(disposition)), ("_PREAMBLE_BYTES", 70)):
        monkeypatch.setattr(multipart_form, name, most)
    body = b"x" * 68 + b"".join([b"\r\n--B\r\n" + disposition + b"\r\n\r\nab"] * 3) + b"\r\n--B--"
    read = MultipartForm(Body(body), "multipart/form-data; boundary=B", field_bytes=6)
    assert (await read.finish()).getall("n") == ["ab"] * 3


async def test_what_stands_behind_a_form_is_read() -> None:
    """A body that is not read to its end costs the connection, and may have broken off."""
    body = Body(b"--B\r\n" + part('form-data; name="n"', b"v") + b"\r\n--B--\r\n", b"what", b"ever")
    assert await MultipartForm(body, "multipart/form-data; boundary=B").finish() == {"n": "v"}
    assert body.chunks == []


async def test_what_nobody_asked_for_is_not_kept() -> None:
    parts = (part('form-data; name="a"', b"1"), part('form-data; name="b"', b"2" * 2_000_000))
    assert await form(*parts, texts=("a",)).finish() == {"a": "1"}
    assert await form(*parts, texts=()).finish() == {}


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "binary", "Binary"])
async def test_encodings_that_change_nothing(encoding: str) -> None:
    encoded = part('form-data; name="n"', b"v", f"Content-Transfer-Encoding: {encoding}")
    assert await form(encoded).finish() == {"n": "v"}


@pytest.mark.parametrize("length", [1, 40, 10_000])
async def test_the_size_of_a_file_is_told_before_its_bytes(length: int) -> None:
    """Exactly where it is the last of its form; the parts that go to the store begin with it."""
    fields = b"--B\r\n" + part('form-data; name="n"', b"v") + b"\r\n"
    body = fields + b"--B\r\n" + part('form-data; name="video"', b"x" * 5000) + b"\r\n--B--\r\n"
    chunks = [body[start : start + length] for start in range(0, len(body), length)]
    read = MultipartForm(Body(*chunks), "multipart/form-data; boundary=B", files=("video",))
    assert await read.next_file() is not None
    assert (read.likely_size(len(body)), read.likely_size(None), read.likely_size(100)) == (5000, 0, 0)
    assert read.likely_size(len(body) + 1000) == 6000, "where something follows"


async def test_no_parts() -> None:
    assert await form().finish() == {}

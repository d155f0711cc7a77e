from __future__ import annotations

import pytest

from services.common.error_catalog import ErrorReason
from services.ffmpeg.addresses import AddressPolicy, AddressRefused

CLOSED = AddressPolicy()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.31.0.1", "192.168.0.1", "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "198.18.0.1", "203.0.113.9", "::1",
        "::", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1",
        "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1",
        "::ffff:0:127.0.0.1",
        # Those that no one above is in, and the ends of those that are no whole byte.
        "192.0.2.1", "192.88.99.1", "198.51.100.1", "3fff::1", "5f00::1",
        "100.64.0.0", "100.127.255.255", "172.16.0.0", "198.19.255.255", "239.255.255.255", "240.0.0.1",
        "2001:1ff::1", "3fff:fff::1", "fdff::1", "febf::1", "feff::1",
        "nonsense", "", "127.1",
    ],
)  # fmt: skip
def test_what_is_not_a_public_address_is_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        CLOSED.check_address(host, 80)


@pytest.mark.parametrize(
    "host",
    [
        "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "192.0.1.1",
        # Neighbours of what is refused.
        "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "168.63.129.15", "168.63.129.17",
        "172.15.255.255", "172.32.0.0", "192.0.3.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
        "2001:200::1", "2001:db9::1", "2003::1", "4000::1",
    ],
)  # fmt: skip
def test_public_addresses_pass(host: str) -> None:
    CLOSED.check_address(host, 443)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "http://[::1]/x", "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/",
        "http://017700000001/", "http://127.1/", "http://127.0.0.1./", "http://0/", "http://①②⑦.0.0.1/",
        "http:///nohost", "http://example.com/\x7f",
        "http://", "file:///etc/passwd", "gopher://127.0.0.1:6379/_INFO", "ftp://example.com/x",
        "s3://bucket/key", "data:,x",
        "javascript:1", "http://user:pw@example.com/", "http://:pw@example.com/", "http://1.1.1.1:22/",
        "http://@example.com/", "http://example.com:22/",
        "http://example.com:6379/",
        "http://example.com:99999/", "http://example.com:x/", "http://exa mple.com/", "http://example.com/\r\nHost: x",
        "http://[::ffff:7f00:1]/", "http://[fe80::1%25eth0]/", "//example.com/x", "example.com/x", "", "http://a..b/",
        f"http://{'a' * 64}.com/",
        "http://exämple.com/", "http://" + "a" * 5000, "http://[::1", "concat:http://example.com/a",
        "http://1.2.3.4.5/",
    ],
)  # fmt: skip
def test_urls_that_are_no_plain_public_ones_are_refused(url: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        CLOSED.check_url(url)
    assert refused.value.reason is ErrorReason.INPUT_REFUSED
    assert refused.value.kind.http_status == 400


@pytest.mark.parametrize(
    "url",
    ["http://example.com/a.mp4", "https://example.com:8443/a?b=c#d", "HTTPS://EXAMPLE.com/", "http://1.1.1.1:8080/x",
     "https://[2606:4700::1111]/x", "https://xn--exmple-cua.com/x", "https://a_b.s3.amazonaws.com/k%20ey",
     "http://h.example./"],
)  # fmt: skip
def test_plain_urls_pass(url: str) -> None:
    CLOSED.check_url(url)


def test_a_listed_pair_passes_and_nothing_beside_it() -> None:
    policy = AddressPolicy.parse(["127.0.0.1:8199", "[::1]:8200"])
    policy.check_url("http://127.0.0.1:8199/x")
    policy.check_url("http://[::1]:8200/x")
    policy.check_url("http://localhost:8199/x")
    policy.check_address("127.0.0.1", 8199)
    policy.check_address("::ffff:127.0.0.1", 8199)
    for host, port in (("127.0.0.1", 80), ("127.0.0.1", 8200), ("127.0.0.2", 8199), ("::1", 8199), ("1.1.1.1", 8199)):
        with pytest.raises(AddressRefused):
            policy.check_address(host, port)
    for url in ("http://127.0.0.1:6379/", "http://localhost:6379/"):
        with pytest.raises(AddressRefused):
            policy.check_url(url)


@pytest.mark.parametrize(
    "pair", ["localhost:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "10.0.0.0/8:80", ":80", ""]
)
def test_a_pair_is_an_address_and_a_port(pair: str) -> None:
    with pytest.raises(ValueError, match="address:port"):
        AddressPolicy.parse([pair])

"""Which addresses an input may have: `video://{uuid}` of a video of this system, or one that it is fetched from.

That is the public Internet's, and what the deployment lists by address and port.

`ipaddress.is_global` is not enough: on Python 3.11 it calls the platform addresses of clouds, NAT64, 6to4 and
site-local addresses global. So the networks that are not anybody's public server are listed here (IANA special-purpose
registries, RFC 6890, and the metadata services of the clouds), and an address inside another is unwrapped first.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host (RFC 791)
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier NAT; Alibaba's metadata service is 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform address, public by number
        "169.254.0.0/16",  # link local, metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service is 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0:0/96",  # IPv4-translated
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",  # discard
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link local
        "fec0::/10",  # site local
        "ff00::/8",  # multicast
    )
)
_PORTS = frozenset({80, 443, 8080, 8443})
_SCHEMES = {"http": 80, "https": 443}
_MAX_URL = 4096
_NUMERIC_LABEL = re.compile(r"(?:0x[0-9a-f]*|\d+)", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_VIDEO = re.compile(r"video://([0-9a-fA-F-]{36})")


class AddressRefused(ReelwayError):
    """An input's address is not one we fetch from; the same address will be refused again."""

    def __init__(self, why: str) -> None:
        super().__init__(ErrorReason.INPUT_REFUSED, why)


def video_id_of(url: str) -> str | None:
    """The UUID of a `video://` address; None for every other address."""
    match = _VIDEO.fullmatch(url)
    try:
        return str(uuid.UUID(match[1])) if match else None
    except ValueError:
        return None


@dataclass(frozen=True)
class AddressPolicy:
    """What may be dialled."""

    allowed: frozenset[tuple[Address, int]] = frozenset()
    """Exact address and port pairs that are allowed whatever they are; for development."""

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> AddressPolicy:
        """From `127.0.0.1:8199` and `[::1]:8199`; raises ValueError naming what is neither."""
        allowed: set[tuple[Address, int]] = set()
        for pair in pairs:
            host, colon, port = pair.strip().rpartition(":")
            try:
                if not colon or not 0 < int(port) < 65536:
                    raise ValueError
                allowed.add((_unwrapped(ipaddress.ip_address(host.strip("[]"))), int(port)))
            except ValueError:
                raise ValueError(f"'{pair}' is not an address:port pair") from None
        return cls(frozenset(allowed))

    def lists(self, host: str, port: int) -> bool:
        """Whether this address and port are one of the allowed pairs."""
        return (_unwrapped(ipaddress.ip_address(host.partition("%")[0])), port) in self.allowed

    def check_address(self, host: str, port: int) -> None:
        """Raise AddressRefused unless this address, which is about to be dialled, may be."""
        try:
            address = _unwrapped(ipaddress.ip_address(host.partition("%")[0]))
        except ValueError:
            raise AddressRefused("the address is not understood") from None
        if (address, port) in self.allowed:
            return
        if port not in _PORTS:
            raise AddressRefused(f"port {port} is not allowed")
        if any(address in network for network in _NETWORKS):
            raise AddressRefused("the address is not a public one")

    def check_url(self, url: str) -> None:
        """Raise AddressRefused unless this http(s) URL may be asked.

        Looks at the text alone, so it can be done when a task is registered; a name is looked up when it is dialled.
        """
        if len(url) > _MAX_URL or any(char.isspace() or not char.isprintable() for char in url):
            raise AddressRefused("the address is not a plain URL")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise AddressRefused("the address is not a plain URL") from None
        if parts.scheme not in _SCHEMES:
            raise AddressRefused("only http:// and https:// addresses, or video://{id}")
        if parts.username is not None:
            raise AddressRefused("an address with a user name is not allowed")
        host = parts.hostname or ""
        port = port or _SCHEMES[parts.scheme]
        if ":" in host or _is_dotted_quad(host):
            self.check_address(host, port)
            return
        labels = host.rstrip(".").split(".")
        # `0x7f.1`, `2130706433`, `127.0.0.1.`: numbers that a resolver may read as an address (WHATWG URL, 3.5).
        if not _HOST.fullmatch(host) or _NUMERIC_LABEL.fullmatch(labels[-1]) or not all(map(_LABEL.fullmatch, labels)):
            raise AddressRefused("the host is neither a name nor a plain address")
        if port not in _PORTS and not any(port == allowed for _, allowed in self.allowed):
            raise AddressRefused(f"port {port} is not allowed")


def _is_dotted_quad(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return host.isascii()


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv4-mapped one: that is what the kernel dials."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address

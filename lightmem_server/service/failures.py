"""Failed authentications by address: beyond a rate, an address's keys are refused unread.

A secret has 256 random bits and isn't guessed; what this bounds is the work and the log lines that a loop with a wrong key
makes. Memory is bounded: the addresses and the good keys that were seen longest ago are forgotten.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import unquote

from lightmem_server.errors import OverloadedError

MAX_PEERS = 4096
MAX_GOOD_KEYS = 4096
IPV6_SITE_BITS = 64
"""One customer has at least so many bits to choose addresses from."""


class FailureLimit:
    """A bucket of tokens for each address; a failure takes one, time gives them back."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`per_minute`: how fast tokens come back, and how many there are at first."""
        self._capacity = float(per_minute)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address to (tokens, when); an address that isn't there has all of them."""
        self._good: OrderedDict[bytes, None] = OrderedDict()
        """Hashes of keys that were good, the latest last."""

    def check(self, peer: str, digest: bytes) -> None:
        """Raises OverloadedError when an address has no token, unless the key with this hash was good lately."""
        tokens = self._tokens(site_of(peer))
        if tokens < 1 and digest not in self._good:
            raise OverloadedError(
                "too many calls with keys that are not good came from this address",
                retry_after_seconds=(1 - tokens) * 60 / self._capacity,
                reason="TOO_MANY_FAILURES",
            )

    def count(self, peer: str, digest: bytes) -> None:
        """Note a failure: what was good before is so no more."""
        site = site_of(peer)
        self._buckets[site] = (max(0.0, self._tokens(site) - 1), self._clock())
        self._buckets.move_to_end(site)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        self._good.pop(digest, None)

    def note_good(self, digest: bytes) -> None:
        """Note a success."""
        self._good[digest] = None
        self._good.move_to_end(digest)
        if len(self._good) > MAX_GOOD_KEYS:
            self._good.popitem(last=False)

    def _tokens(self, site: str) -> float:
        tokens, at = self._buckets.get(site, (self._capacity, 0.0))
        return min(self._capacity, tokens + (self._clock() - at) * self._capacity / 60)


def site_of(peer: str) -> str:
    """What of gRPC's name for the other end stays the same from connection to connection: an address without its port, the
    network of an IPv6 one."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, IPV6_SITE_BITS), strict=False))
    return str(address)

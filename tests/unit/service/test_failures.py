from __future__ import annotations

import pytest

from lightmem_server.errors import OverloadedError
from lightmem_server.service.failures import MAX_GOOD_KEYS, MAX_PEERS, FailureLimit, site_of

BAD, GOOD = b"bad", b"good"


class Time:
    """A clock that stands still."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_address_that_fails_too_often_is_refused_until_time_has_passed() -> None:
    time = Time()
    limit = FailureLimit(6, time)
    for _ in range(6):
        limit.check("ipv4:10.0.0.1:1000", BAD)
        limit.count("ipv4:10.0.0.1:1000", BAD)
    with pytest.raises(OverloadedError) as caught:
        limit.check("ipv4:10.0.0.1:2000", BAD)
    assert caught.value.reason == "TOO_MANY_FAILURES"
    assert caught.value.retry_after_seconds == pytest.approx(10.0)
    limit.check("ipv4:10.0.0.2:1000", BAD)
    time.now += caught.value.retry_after_seconds
    limit.check("ipv4:10.0.0.1:1000", BAD)


def test_a_key_that_was_good_lately_is_still_looked_at() -> None:
    limit = FailureLimit(1, Time())
    limit.note_good(GOOD)
    limit.count("ipv4:10.0.0.1:1", BAD)
    limit.check("ipv4:10.0.0.1:1", GOOD)
    limit.count("ipv4:10.0.0.1:1", GOOD)
    with pytest.raises(OverloadedError):
        limit.check("ipv4:10.0.0.1:1", GOOD)


def test_memory_is_bounded() -> None:
    limit = FailureLimit(1, Time())
    for number in range(MAX_PEERS + 10):
        limit.count(f"ipv4:10.0.{number // 256}.{number % 256}:1", BAD)
    for number in range(MAX_GOOD_KEYS + 10):
        limit.note_good(str(number).encode())
    assert (len(limit._buckets), len(limit._good)) == (MAX_PEERS, MAX_GOOD_KEYS)


@pytest.mark.parametrize(
    ("peer", "site"),
    [
        ("ipv4:127.0.0.1:51234", "127.0.0.1"),
        ("ipv6:%5B::1%5D:51234", "::/64"),
        ("ipv6:[2001:db8:1:2:3::4]:51234", "2001:db8:1:2::/64"),
        ("ipv6:[fe80::1%25eth0]:1", "fe80::/64"),
        ("ipv6:[::ffff:10.0.0.1]:1", "10.0.0.1"),
        ("unix:", "unix"),
        ("unix:/run/lightmem", "unix"),
        ("", ""),
        ("ipv4:nonsense:1", "nonsense"),
    ],
)
def test_an_address_is_told_without_its_port(peer: str, site: str) -> None:
    assert site_of(peer) == site

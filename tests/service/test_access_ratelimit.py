"""Rate limits, and how much an attacker can write into the log."""

from __future__ import annotations

import threading

import pytest

from hillhold_signer.service.ratelimit import Flood, Limiter, bucket_of


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    limiter = Limiter(rate=0.5, burst=3)
    assert [limiter.take("Ada", 100) for _ in range(4)] == [0, 0, 0, 2]
    assert limiter.take("Ada", 101) == 1
    assert limiter.take("Ada", 102) == 0
    assert limiter.take("Ada", 102) == 2
    assert [limiter.take("Ada", 10_000) for _ in range(4)] == [0, 0, 0, 2]  # it holds no more than the burst


def test_whoever_waits_as_long_as_said_is_heard() -> None:
    limiter = Limiter(rate=1 / 6, burst=1)
    now = 0.0
    for _ in range(50):
        assert limiter.take("Ada", now) == 0
        now += limiter.take("Ada", now)


def test_one_bucket_takes_nothing_from_another_and_looking_takes_nothing() -> None:
    limiter = Limiter(rate=1, burst=1)
    for _ in range(3):
        assert limiter.wait("Ada", 0) == 0
    assert limiter.take("Ada", 0) == 0
    assert limiter.wait("Ada", 0) == 1
    assert limiter.take("Grace", 0) == 0


def test_asking_while_it_is_empty_does_not_keep_it_empty() -> None:
    limiter = Limiter(rate=1, burst=1)
    limiter.take("Ada", 0)
    assert [limiter.take("Ada", at / 10) for at in range(1, 11)] == [1] * 9 + [0]


def test_a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out() -> None:
    limiter = Limiter(rate=1, burst=1)
    assert limiter.take("Ada", 1000) == 0
    assert limiter.take("Ada", 0) == 1
    assert limiter.take("Ada", 1) == 0


def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    limiter = Limiter(rate=0.001, burst=1, size=100)
    for number in range(100):
        limiter.take(str(number), 0)
    limiter.take("0", 0)  # used again
    for number in range(100, 199):
        limiter.take(str(number), 0)
    assert len(limiter._buckets) == 100
    assert limiter.wait("0", 0) > 0
    assert limiter.wait("1", 0) == 0
    for number in range(10_000):
        limiter.wait(f"looked {number}", 0)
    assert len(limiter._buckets) == 100


def test_many_threads_get_no_more_than_the_burst() -> None:
    limiter = Limiter(rate=0.001, burst=100)
    given: list[bool] = []

    def take() -> None:
        given.extend(limiter.take("Ada", 0) == 0 for _ in range(100))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given.count(True) == 100


@pytest.mark.parametrize(("rate", "burst", "size"), [(0, 1, 1), (-1, 1, 1), (1, 0, 1), (1, 1, 0), (float("nan"), 1, 1)])
def test_a_limit_that_would_let_nobody_in_is_refused(rate: float, burst: float, size: int) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Limiter(rate, burst, size)


def test_an_address_is_counted_as_one_host_has_it() -> None:
    assert bucket_of("192.0.2.7") == bucket_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert bucket_of("2001:db8::1") == bucket_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert bucket_of("2001:db8:0:1::1") != bucket_of("2001:db8::1")
    assert bucket_of("fe80::1%eth0") == bucket_of("fe80::1%x\n") == "fe80::/64"
    assert {bucket_of(text) for text in ("", "x", "192.0.2.7.8", "\x00", "1" * 10_000)} == {"unknown"}


def test_a_flood_writes_so_many_events_and_then_a_number() -> None:
    flood = Flood(most=3, window=60)
    assert [flood.take(0) for _ in range(5)] == [(True, 0)] * 3 + [(False, 0)] * 2
    assert flood.take(59) == (False, 0)
    assert flood.take(60) == (True, 3)
    assert flood.take(61) == (True, 0)


def test_what_was_held_back_is_not_lost_when_nobody_comes_any_more() -> None:
    flood = Flood(most=1, window=60)
    for _ in range(8):
        flood.take(0)
    assert flood.drain(59) == 0
    assert flood.drain(60) == 7
    assert flood.drain(1000) == 0
    for _ in range(3):
        flood.take(1000)
    assert flood.drain(1001, all_=True) == 2  # at the end
    assert flood.drain(1001, all_=True) == 0


def test_a_day_of_attack_loses_no_failure_and_writes_a_bounded_number() -> None:
    flood = Flood(most=20, window=60)
    tried = written = counted = 0
    for second in range(0, 86_400, 2):
        for _ in range(3):
            tried += 1
            itself, held = flood.take(second)
            written += itself
            counted += held
    counted += flood.drain(86_400, all_=True)
    assert written + counted == tried
    assert written <= 20 * 1440

"""Counters, gauges and histograms: nothing without somebody who sends them, bounded, and right with many threads."""

import threading
from itertools import count

import pytest

from common import metrics
from common.metrics import Counter, Gauge, Histogram, Instrument

NAMES = count()


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setattr(Instrument, "counts", True)
    monkeypatch.setattr(Instrument, "known", dict(Instrument.known))


def name():
    return f"test.instrument.{next(NAMES)}"


def test_without_a_collector_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(Instrument, "counts", False)
    instruments = Counter(name(), "1", "c"), Gauge(name(), "1", "g"), Histogram(name(), "s", "h", (1.0,))
    instruments[0].add(1)
    instruments[1].set(1)
    instruments[2].record(1)
    metrics.request("GET /v1/projects", 200, 0.1)
    assert [each.points for each in (*instruments, metrics.REQUESTS)] == [{}] * 4


def test_a_histogram_counts_up_to_each_bound():
    histogram = Histogram(name(), "s", "h", (0.1, 1.0), ("outcome",))
    for number in (0.05, 0.1, 0.5, 2.0):
        histogram.record(number, "ok")
    assert histogram.snapshot() == {("ok",): [pytest.approx(2.65), 0.05, 2.0, 2, 1, 1]}


def test_a_gauge_is_what_it_is_now_and_a_counter_grows():
    gauge, counter = Gauge(name(), "1", "g"), Counter(name(), "1", "c", ("reason",))
    for number in (3, 1):
        gauge.set(number)
        counter.add(number, "gone")
    assert (gauge.snapshot(), counter.snapshot()) == ({(): [1.0]}, {("gone",): [4.0]})


def test_more_series_than_there_may_be_are_one(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_SERIES", 3)
    counter = Counter(name(), "1", "c", ("reason",))
    for number in range(10):
        counter.add(1, f"reason {number}")
    assert counter.snapshot()[("other",)] == [7.0]
    assert len(counter.points) == 4


def test_nothing_is_lost_between_threads():
    counter, histogram = Counter(name(), "1", "c"), Histogram(name(), "s", "h", (1.0,))

    def work():
        for _ in range(2000):
            counter.add(1)
            histogram.record(0.5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.snapshot() == {(): [16_000.0]}
    assert sum(histogram.snapshot()[()][3:]) == 16_000


def test_a_step_of_a_job_is_counted_as_one():
    metrics.request("POST /internal/exports/<uuid:job_id>/plan", 409, 2.0)
    labels = ("/internal/exports/{job_id}/plan", "4xx")
    assert metrics.STEPS.snapshot()[labels][0] == 2.0
    assert ("POST", *labels) in metrics.REQUESTS.snapshot()
    metrics.request("none", 404, 0.1)
    assert ("other", "other", "4xx") in metrics.REQUESTS.snapshot()

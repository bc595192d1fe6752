"""The targets: their limits, both ways, and what is not measured."""

from bench.results import Cases, Spread
from bench.verdicts import TARGETS, eager, grown, refused, slowest_start
from tests.bench.conftest import Made

BY_ID = {target.id: target for target in TARGETS}


def test_each_has_a_name_of_its_own() -> None:
    assert len(BY_ID) == len(TARGETS)


def test_nothing_measured_is_no_verdict() -> None:
    assert [target.id for target in TARGETS if target.measure({}) is not None] == []


def test_a_limit_from_above_and_from_below() -> None:
    most, least = BY_ID["list-django_drf-1000x200"], BY_ID["audit"]

    assert most.met(Spread(0.30, 0.2, 0.4))
    assert not most.met(Spread(0.31, 0.2, 0.4))
    assert least.met(Spread(0.70, 0.6, 0.8))
    assert not least.met(Spread(0.69, 0.6, 0.8))


def test_a_target_finds_its_figure(cases: Cases) -> None:
    assert BY_ID["list-django_drf-1000x200"].measure(cases) == Spread(0.28125, 0.25, 0.3125)
    assert BY_ID["get-django_drf-1000x200"].measure(cases) is None


def test_the_slowest_function_decides(case: Made) -> None:
    rows = {name: [{"seconds": seconds}] for name, seconds in (("auth", 0.3), ("keys", 0.9), ("ff_hello", 0.3))}
    cold = {"cold start": case(rows, said={"functions": ["auth", "keys"], "eager grpc": {"keys": ["grpc"]}})}

    found, count = slowest_start(cold, "ff_hello"), eager(cold)
    assert found is not None
    assert round(found.middle, 9) == 3
    assert count == Spread(1, 1, 1)


def test_growth_is_the_largest_to_the_smallest(case: Made) -> None:
    """As numbers, not as texts; what is no size stands beside."""
    rows = {name: [{"mib": mib}] for name, mib in (("900", 2.0), ("10000", 3.0), ("COPY 900", 50.0))}

    assert grown({"memory": case(rows)}, "memory", "mib") == Spread(1.5, 1.5, 1.5)
    assert grown({"memory": case({"900": rows["900"]})}, "memory", "mib") is None


def test_a_refresh_without_an_answer_counts_as_refused(case: Made) -> None:
    rows = {"dev_context": [{"asked": 200, "answered": 200}, {"asked": 200, "answered": 198}]}

    found = refused({"parallel refresh": case(rows)})
    assert found is not None
    assert found.high == 2

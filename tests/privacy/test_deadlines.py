"""Calendar months (Art. 12(3) GDPR; Regulation 1182/71, Art. 3): in UTC, and never past the end of a month."""

import calendar
from datetime import UTC, date, datetime, timedelta

import pg8000.native
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DAYS = st.dates(date(1999, 1, 1), date(2101, 1, 1))
MOMENTS = st.builds(datetime.combine, DAYS, st.times(timezones=st.just(UTC)))
ZONES = ("UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/New_York")


def months_after(moment: datetime, months: int) -> datetime:
    """The same day and time of a later month, or that month's last day."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last))


def computed(admin: pg8000.native.Connection, moment: datetime, months: int, zone: str = "UTC") -> datetime:
    admin.run("SELECT set_config('TimeZone', :zone, false)", zone=zone)
    found = admin.run(
        "SELECT platform.months_after(CAST(:moment AS timestamptz), :months)", moment=moment.isoformat(), months=months
    )
    later: datetime = found[0][0]
    return later


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moment=MOMENTS, months=st.integers(1, 3), zone=st.sampled_from(ZONES))
def test_months(admin: pg8000.native.Connection, moment: datetime, months: int, zone: str) -> None:
    later = computed(admin, moment, months, zone)

    assert later == months_after(moment, months)
    assert timedelta(days=28) * months <= later - moment <= timedelta(days=31) * months


@pytest.mark.parametrize(
    ("received", "months", "due"),
    [
        ("2027-01-31T12:00:00+00:00", 1, "2027-02-28T12:00:00+00:00"),
        ("2028-01-31T12:00:00+00:00", 1, "2028-02-29T12:00:00+00:00"),
        ("2027-02-28T12:00:00+00:00", 1, "2027-03-28T12:00:00+00:00"),
        ("2027-03-31T00:00:00+02:00", 1, "2027-04-30T22:00:00+00:00"),
        ("2026-12-31T23:59:59+00:00", 2, "2027-02-28T23:59:59+00:00"),
        ("2027-01-31T12:00:00+00:00", 3, "2027-04-30T12:00:00+00:00"),
    ],
)
def test_ends_of_months(admin: pg8000.native.Connection, received: str, months: int, due: str) -> None:
    assert computed(admin, datetime.fromisoformat(received), months) == datetime.fromisoformat(due)

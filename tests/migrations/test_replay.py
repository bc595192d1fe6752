"""Which entries of the ledger are replayed, in which order, and which legal holds come back with them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from migrations.replay import wanted


def entry(name: str, scope: str = "me", *, days: int = 1, holds: tuple[str, ...] = (), **of: str) -> dict[str, Any]:
    """An entry that was received `days` ago."""
    received = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    listed = [{"id": hold, "subject_id": "ann", "organization_id": "acme"} for hold in holds]
    who: dict[str, str | None] = {"subject_id": "ann", "organization_id": None, **of}
    return {"deletion_id": name, "scope": scope, "received_at": received, "holds": listed, **who}


def holds(entries: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Entry → its holds."""
    return {each["deletion_id"]: [hold["id"] for hold in each["holds"]] for each in wanted(entries)}


def test_a_persons_part_in_organizations_comes_first() -> None:
    found = wanted([entry("1"), entry("2", "organization"), entry("3", "user"), entry("4"), entry("5", "user")])

    assert [each["deletion_id"] for each in found] == ["3", "5", "2", "1", "4"]


def test_an_entry_ends_with_the_requests_own_time() -> None:
    assert [each["deletion_id"] for each in wanted([entry("old", days=1096), entry("new", days=1094)])] == ["new"]


def test_a_hold_comes_back_until_an_erasure_went_without_it() -> None:
    assert holds([entry("1", holds=("h",))]) == {"1": ["h"]}
    assert holds([entry("1", holds=("h",)), entry("2", holds=("h",))]) == {"1": ["h"], "2": ["h"]}
    assert holds([entry("1", holds=("h",)), entry("2")]) == {"1": [], "2": []}
    assert holds([entry("1", holds=("h",)), entry("2", "user", organization_id="acme")]) == {"2": [], "1": []}
    assert holds([entry("1", holds=("h",)), entry("2", "user", organization_id="other")]) == {"2": [], "1": ["h"]}
    assert holds([entry("1", holds=("h",)), entry("2", subject_id="bob")]) == {"1": ["h"], "2": []}
    of_all = entry("2", "organization", subject_id="", organization_id="acme")
    assert holds([entry("1", "user", holds=("h",), organization_id="acme"), of_all]) == {"1": [], "2": []}

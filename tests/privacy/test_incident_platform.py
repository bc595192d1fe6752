"""An incident of the platform: a record, an event and mails in each organization that it concerns (Art. 33(2) GDPR)."""

import uuid
from datetime import timedelta
from typing import Any

import pg8000.native
import pytest
from pg8000.exceptions import DatabaseError

from tests.conftest import Api, Inbox, People, Person, last_audit_event
from tests.privacy.conftest import Desk
from tests.privacy.incidents import Officer, ago, parsed
from tests.privacy.test_incident_alarms import alarms, log_lines

OPEN = (
    "SELECT platform.open_incident(:id, :title, 'P0', CAST(:detected AS timestamptz), '{contact}',"
    " CAST(:organizations AS uuid[]), 'A key leaked.', '{\"reason\": \"test\"}', 'test')"
)


class Platform:
    """The operator, as the role that migrates."""

    def __init__(self, admin: pg8000.native.Connection) -> None:
        self._admin = admin

    def run(self, sql: str, **parameters: Any) -> Any:
        self._admin.run("SET ROLE context_owner")
        try:
            return self._admin.run(sql, **parameters)
        finally:
            self._admin.run("RESET ROLE")

    def open(self, *organizations: str, incident: str | None = None, detected: str | None = None) -> tuple[str, int]:
        """A new incident's id, and how many organizations it concerns."""
        new = incident or str(uuid.uuid4())
        given = {"id": new, "title": "Leaked key", "detected": detected or ago(hours=8)}
        return new, self.run(OPEN, organizations=list(organizations), **given)[0][0]

    def fan_out(self, incident: str, most: int = 50) -> int:
        """How many organizations were told now."""
        return int(self.run("SELECT platform.fan_out_incident(:id, :most, 'test')", id=incident, most=most)[0][0])

    def listed(self, incident: str) -> dict[str, Any]:
        """The line of the operator's list."""
        rows = self.run("SELECT to_json(l) FROM platform.list_incidents(10000) l WHERE id = :id", id=incident)
        found: dict[str, Any] = rows[0][0]
        return found

    def events(self, incident: str) -> list[tuple[str, Any]]:
        """The platform's own chain about it."""
        rows = self._admin.run(
            "SELECT action, data FROM app.audit_events WHERE tenant_id = platform.organization_id()"
            " AND resource_id = :id ORDER BY seq",
            id=incident,
        )
        return [(action, data) for action, data in rows]


@pytest.fixture
def platform(admin: pg8000.native.Connection) -> Platform:
    return Platform(admin)


def test_each_organization_gets_its_own(
    api: Api,
    admin: pg8000.native.Connection,
    platform: Platform,
    desk: Desk,
    inbox: Inbox,
    alice: Person,
    dan: Person,
    mallory: Person,
) -> None:
    incident, affected = platform.open(alice.tenant_id, mallory.tenant_id)
    assert affected == 2
    assert platform.listed(incident)["opened"] == 0

    assert (platform.fan_out(incident), platform.fan_out(incident)) == (2, 0)

    officers = [Officer(api, admin, person) for person in (alice, mallory)]
    for officer in officers:
        event = last_audit_event(admin, officer.person)
        (shown,) = officer.call("GET").json["items"]
        assert (event["action"], event["actor_type"], event["resource_id"]) == (
            "incident.opened",
            "system",
            shown["id"],
        )
        assert event["data"] == {"severity": "P0", "platform_incident_id": incident}
        assert (shown["title"], shown["description"], shown["data_classes"]) == (
            "Leaked key",
            "A key leaked.",
            ["contact"],
        )
        assert shown["told_by_platform"]["incident_id"] == incident
        assert shown["created_by"] is None
        aware = parsed(shown["detected_at"])
        assert aware - parsed(shown["told_by_platform"]["detected_at"]) >= timedelta(hours=8)  # told now, aware now
        assert parsed(shown["notify_by"]) - aware == timedelta(hours=72)
    assert officers[0].call("GET").json["items"][0]["id"] != officers[1].call("GET").json["items"][0]["id"]
    assert platform.listed(incident) | {"opened": 2, "organizations": 2, "untold": 0} == platform.listed(incident)
    assert platform.events(incident) == [("incident.opened", {"severity": "P0", "organizations": 2, "reason": "test"})]
    desk.drain()
    mail = inbox.wait_for(alice.email, "An incident of the platform concerns")
    assert all(part in mail["text"] for part in ("Leaked key", "A key leaked.", "contact", "Art. 33(2)", "72 hours"))
    assert inbox.messages(dan.email) == []


def test_the_same_id_changes_nothing(platform: Platform, alice: Person, mallory: Person) -> None:
    incident, _ = platform.open(alice.tenant_id)
    platform.fan_out(incident)
    assert platform.open(alice.tenant_id, mallory.tenant_id, incident=incident)[1] == 1
    assert platform.fan_out(incident) == 0
    assert len(platform.events(incident)) == 1


def test_what_a_killed_command_left_the_job_finishes(
    admin: pg8000.native.Connection, platform: Platform, people: People, desk: Desk
) -> None:
    owners = [people.create("owner") for _ in range(4)]
    incident, _ = platform.open(*(owner.tenant_id for owner in owners))
    assert platform.fan_out(incident, most=1) == 1
    assert platform.listed(incident)["opened"] == 1

    assert desk.remind()["organizations"] >= 3

    assert platform.listed(incident)["opened"] == 4
    rows = admin.run(
        "SELECT count(*), count(DISTINCT tenant_id) FROM app.incidents WHERE platform_incident_id = :id", id=incident
    )
    assert rows == [[4, 4]]


def test_suspended_erasing_and_gone(admin: pg8000.native.Connection, platform: Platform, people: People) -> None:
    suspended, gone, empty = people.create("owner"), people.organization(), people.organization()
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=suspended.tenant_id)
    incident, _ = platform.open(suspended.tenant_id, gone, empty)
    admin.run("DELETE FROM app.organizations WHERE tenant_id = :t", t=gone)

    assert platform.fan_out(incident) == 3

    assert platform.listed(incident)["untold"] == 2
    assert alarms(
        admin,
        admin.run("SELECT id::text FROM app.incidents WHERE tenant_id = :t", t=suspended.tenant_id)[0][0],
    ) == [("opened", suspended.user_id)]


def test_all_are_all_but_the_platform(admin: pg8000.native.Connection, platform: Platform, alice: Person) -> None:
    """In a transaction that is rolled back: other tests' organizations know nothing of it."""
    admin.run("BEGIN")
    total = admin.run("SELECT count(*) FROM app.organizations WHERE tenant_id <> platform.organization_id()")[0][0]
    given = {"id": str(uuid.uuid4()), "title": "x", "detected": ago()}
    assert platform.run(OPEN, organizations=None, **given) == [[total]]
    admin.run("ROLLBACK")


@pytest.mark.parametrize("wrong", ["platform", "unknown", "future"])
def test_what_is_refused(admin: pg8000.native.Connection, platform: Platform, alice: Person, wrong: str) -> None:
    own = str(admin.run("SELECT platform.organization_id()")[0][0])
    organization = {"platform": own, "unknown": str(uuid.uuid4())}.get(wrong, alice.tenant_id)
    with pytest.raises(DatabaseError) as refusal:
        platform.open(organization, detected=ago(hours=-1) if wrong == "future" else None)
    assert refusal.value.args[0]["C"] == "22023"


def test_whom_it_concerns(
    api: Api, admin: pg8000.native.Connection, platform: Platform, alice: Person, mallory: Person
) -> None:
    """By an actor and an address over all chains; what was refused concerns nobody."""
    actor = str(uuid.uuid4())
    intruder = Person(actor, "", "", "", "", "")
    started = ago()
    Officer(api, admin, alice).happened("user.updated", intruder, actor, ip="198.51.100.77")
    Officer(api, admin, mallory).happened("user.updated", intruder, actor, ip="198.51.100.8", outcome="denied")

    def found(who: str | None, network: str | None) -> set[str]:
        rows = platform.run(
            "SELECT tenant_id::text FROM platform.affected_organizations(CAST(:since AS timestamptz), now(),"
            " CAST(:who AS uuid), :network)",
            since=started,
            who=who,
            network=network,
        )
        return {row[0] for row in rows}

    assert found(actor, None) == found(actor, "198.51.100.0/24") == {alice.tenant_id}
    assert found(actor, "198.51.100.78") == set()


def test_it_is_closed_when_it_may_be(platform: Platform, alice: Person) -> None:
    incident, _ = platform.open(alice.tenant_id, detected=ago(hours=80))

    def close(notified: str | None, reason: str | None) -> str:
        sql = "SELECT platform.close_incident(:id, CAST(:notified AS timestamptz), :reason, '{}', 'test')"
        return str(platform.run(sql, id=incident, notified=notified, reason=reason)[0][0])

    assert close(ago(hours=70), None) == "incomplete"  # nobody was told yet
    platform.fan_out(incident)
    assert close(None, None) == close(None, " ") == close(ago(), None) == "incomplete"  # late, without a reason
    assert close(ago(hours=70), None) == "closed"
    assert close(ago(hours=70), None) == "unchanged"
    assert platform.listed(incident)["status"] == "closed"
    assert [action for action, _ in platform.events(incident)] == ["incident.opened", "incident.closed"]


def test_the_platforms_own_clock(
    stack: dict[str, Any], admin: pg8000.native.Connection, platform: Platform, desk: Desk, alice: Person
) -> None:
    """This stack has no PRIVACY_MAIL: the log is loud, once."""
    incident, _ = platform.open(alice.tenant_id, detected=ago(hours=50))
    desk.remind()
    desk.remind()
    assert alarms(admin, incident) == [("due", None)]
    (line,) = log_lines(stack, incident)
    assert '"severity":"CRITICAL"' in line.replace(" ", "")
    assert '"of_platform":true' in line.replace(" ", "")


@pytest.mark.parametrize("role", ["audit_fn", "retention_fn", "organizations_fn", "auth_fn"])
def test_no_service_opens_one(admin: pg8000.native.Connection, role: str) -> None:
    names = ("open_incident", "fan_out_incident", "affected_organizations", "list_incidents", "close_incident")
    rows = admin.run(
        "SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'platform'::regnamespace AND p.proname = ANY (:names)"
        " AND has_function_privilege(:role, p.oid, 'EXECUTE')",
        names=list(names),
        role=role,
    )
    assert rows == [[0]]

"""/v1/privacy/incidents: the record, its 72-hour clock, who was told when, and when it may be closed."""

from datetime import timedelta

import pg8000.native
import pytest

from tests.conftest import Api, People, Person
from tests.privacy.incidents import HOUR, INCIDENTS, Officer, ago, parsed

FUTURE = "2999-01-01T00:00:00Z"


@pytest.fixture
def officer(api: Api, admin: pg8000.native.Connection, alice: Person) -> Officer:
    return Officer(api, admin, alice)


def test_it_works(officer: Officer, alice: Person) -> None:
    detected = ago(hours=5)
    answer = officer.call(
        "POST",
        json={
            "title": "Lost laptop",
            "severity": "P3",
            "detected_at": detected,
            "data_classes": ["contact", "identification"],
        },
    )

    assert answer.status_code == 201
    made = answer.json
    assert answer.headers["Location"] == f"{INCIDENTS}/{made['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert parsed(made["detected_at"]) == parsed(detected)
    assert parsed(made["notify_by"]) - parsed(made["detected_at"]) == timedelta(hours=72)
    assert (made["status"], made["severity"], made["risk"], made["version"]) == ("open", "P3", "undecided", 1)
    assert made["data_classes"] == ["contact", "identification"]
    assert (made["notices"], made["scope"], made["told_by_platform"]) == ([], None, None)
    assert (made["overdue"], made["undecided"], made["created_by"]) == (False, True, alice.user_id)
    assert officer.read(made["id"]) == made
    assert officer.call("GET").json["items"] == [made]
    assert [(e["action"], e["resource_id"], e["data"]) for e in officer.events()] == [
        ("incident.opened", made["id"], {"severity": "P3"}),
        ("incident.read", made["id"], {}),
        ("incident.read", None, {}),
    ]


@pytest.mark.parametrize("role", ["developer", "member", "viewer"])
def test_who_may_not(api: Api, people: People, alice: Person, role: str) -> None:
    answer = api.get(INCIDENTS, headers=people.create(role, alice.tenant_id))
    assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")


def test_an_admin_may(api: Api, admin: pg8000.native.Connection, people: People, alice: Person) -> None:
    assert Officer(api, admin, people.create("admin", alice.tenant_id)).open()["version"] == 1


def test_another_organization_sees_nothing(
    api: Api, admin: pg8000.native.Connection, officer: Officer, mallory: Person
) -> None:
    made, other = officer.open(), Officer(api, admin, mallory)
    below = f"/{made['id']}"
    times = {"from": ago(hours=1), "to": ago()}
    answers = [
        other.call("GET", below),
        other.change(made["id"], title="x"),
        other.tell(made["id"]),
        other.call("POST", f"{below}/notices/subjects", json={}),
        other.call("GET", f"{below}/scope", params=times),
        other.call("POST", f"{below}/scope", json=times),
        other.call("GET", f"{below}/drafts/authority"),
        other.call("POST", f"{below}/drafts/subjects/mail"),
    ]
    assert {(answer.status_code, answer.json["code"]) for answer in answers} == {(404, "not_found")}
    assert other.call("GET").json["items"] == []
    assert officer.read(made["id"]) == made


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("severity", "P4"),
        ("severity", None),
        ("title", ""),
        ("title", "x" * 256),
        ("detected_at", FUTURE),
        ("detected_at", "2026-01-01T00:00:00"),
        ("started_at", FUTURE),
        ("data_classes", ["horoscope"]),
        ("data_classes", ["contact", "contact"]),
        ("risk", "none"),
        ("affected_people", -1),
        ("status", "closed"),
        ("notify_by", FUTURE),
        ("notices", []),
        ("created_by", "00000000-0000-4000-8000-000000000000"),
    ],
)
def test_wrong_values(officer: Officer, field: str, value: object) -> None:
    given = {"title": "x", "severity": "P0", "detected_at": ago(), field: value}
    answer = officer.call("POST", json=given)
    assert answer.status_code == 422, answer.text
    assert [name.split(".")[0] for name in answer.json["errors"]] == [field]


def test_it_does_not_end_before_it_begins(officer: Officer) -> None:
    given = {"title": "x", "severity": "P0", "detected_at": ago(), "started_at": ago(hours=2), "ended_at": ago(hours=3)}
    assert list(officer.call("POST", json=given).json["errors"]) == ["ended_at"]
    made = officer.open(started_at=ago(hours=2))
    assert list(officer.change(made["id"], ended_at=ago(hours=3)).json["errors"]) == ["ended_at"]
    assert officer.change(made["id"], ended_at=ago(hours=1)).json["version"] == 2
    assert officer.change(made["id"], ended_at=None, started_at=None).json["ended_at"] is None


def test_a_correction_moves_the_clock_and_leaves_its_trace(officer: Officer) -> None:
    made = officer.open(detected_at=ago(hours=10))
    later = ago(hours=2)

    changed = officer.change(made["id"], detected_at=later).json

    assert parsed(changed["notify_by"]) == parsed(later) + 72 * HOUR
    assert changed["first_detected_at"] == made["detected_at"]
    (event,) = [event for event in officer.events() if event["action"] == "incident.clock_corrected"]
    assert (parsed(event["data"]["before"]), parsed(event["data"]["after"])) == (
        parsed(made["detected_at"]),
        parsed(later),
    )
    assert officer.change(made["id"], detected_at=FUTURE).status_code == 422
    assert officer.change(made["id"], notify_by=FUTURE).status_code == 422
    assert officer.change(made["id"], first_detected_at=later).status_code == 422


def test_severity_is_no_matter_of_the_clock(officer: Officer) -> None:
    made = officer.open(severity="P3")
    assert officer.change(made["id"], severity="P0").json["notify_by"] == made["notify_by"]


def test_if_match(officer: Officer) -> None:
    made = officer.open()
    address = f"/{made['id']}"
    stale = officer._api.patch(
        f"{INCIDENTS}{address}", json={"title": "x"}, headers={**officer.person, "If-Match": '"7"'}
    )
    assert stale.status_code == 412
    assert officer.change(made["id"], title="New").headers["ETag"] == '"2"'


def test_filters_and_pages(officer: Officer) -> None:
    first = officer.open(severity="P0", detected_at=ago(hours=80))
    second = officer.open(severity="P2")
    officer.change(second["id"], status="contained")

    def found(**query: object) -> list[str]:
        return [item["id"] for item in officer.call("GET", params=query).json["items"]]

    assert found() == [second["id"], first["id"]]
    assert found(severity="P0") == found(overdue="true") == found(status="open") == [first["id"]]
    assert found(overdue="false") == found(status="contained") == [second["id"]]
    assert officer.call("GET", params={"status": "lost"}).status_code == 422
    page = officer.call("GET", params={"limit": 1}).json
    rest = officer.call("GET", params={"limit": 1, "cursor": page["next_cursor"]}).json
    assert [page["items"][0]["id"], rest["items"][0]["id"]] == [second["id"], first["id"]]
    assert rest["next_cursor"] is None


def test_notices_are_appended(officer: Officer, alice: Person) -> None:
    made = officer.open()
    told_at = ago(minutes=30)
    answer = officer.tell(made["id"], told_at=told_at, reference="LDA-1", channel="portal")
    assert answer.status_code == 201
    officer.tell(made["id"], recipient="processor", channel="phone")

    shown = officer.read(made["id"])

    assert shown["version"] == 3
    assert shown["undecided"] is False
    assert [notice["recipient"] for notice in shown["notices"]] == ["authority", "processor"]
    assert shown["notices"][0] == answer.json
    assert parsed(answer.json["told_at"]) == parsed(told_at)
    assert (answer.json["reference"], answer.json["recorded_by"]) == ("LDA-1", alice.user_id)
    assert [e["data"] for e in officer.events() if e["action"] == "incident.notice_recorded"] == [
        {"recipient": "authority", "channel": "portal"},
        {"recipient": "processor", "channel": "phone"},
    ]
    for wrong in ({"told_at": FUTURE}, {"recipient": "press"}, {"channel": ""}, {"people": -1}, {"text": "x"}):
        assert officer.tell(made["id"], **wrong).status_code == 422
    assert officer.call("PATCH", f"/{made['id']}/notices", json={}).status_code == 405


def test_a_late_notice_has_its_reason(officer: Officer) -> None:
    made = officer.open(detected_at=ago(hours=73))
    assert made["overdue"] is True
    assert list(officer.tell(made["id"]).json["errors"]) == ["delay_reason"]
    assert officer.tell(made["id"], delay_reason="Nobody was on duty.").status_code == 201
    assert officer.read(made["id"])["overdue"] is False
    assert officer.tell(made["id"], reference="supplement").status_code == 201  # the first one is what is late


def test_what_closing_needs(officer: Officer) -> None:
    made = officer.open()

    def close(**body: object) -> str:
        answer = officer.change(made["id"], status="closed", **body)
        return str(answer.json.get("detail", answer.json["status"])) if answer.status_code != 200 else "closed"

    assert "risk" in close()
    assert "authority" in close(risk="likely")
    assert "authority" in close(risk="unlikely")
    assert "authority" in close(risk="likely", no_notification_reason="encrypted")
    officer.tell(made["id"])
    assert "people" in close(risk="high")
    assert officer.read(made["id"])["status"] == "open"
    assert close(risk="high", no_communication_reason="Art. 34(3)(a): encrypted") == "closed"
    shown = officer.read(made["id"])
    assert shown["closed_at"] is not None
    assert officer.events()[-2]["action"] == "incident.closed"


def test_an_unlikely_risk_is_documented_and_closed(officer: Officer) -> None:
    made = officer.open()
    reason = "The disk was encrypted."
    assert officer.change(made["id"], risk="unlikely", no_notification_reason=reason).json["undecided"] is False
    assert officer.change(made["id"], status="closed").json["status"] == "closed"


def test_a_clock_that_was_corrected_asks_for_the_reason_again(officer: Officer) -> None:
    made = officer.open()
    officer.tell(made["id"])
    officer.change(made["id"], detected_at=ago(hours=100), risk="likely")
    answer = officer.change(made["id"], status="closed")
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert "delay_reason" in answer.json["detail"]
    officer.tell(made["id"], delay_reason="It was found in the old logs.")
    assert officer.change(made["id"], status="closed").status_code == 200


def test_a_closed_one_is_opened_again_first(officer: Officer) -> None:
    made = officer.open(risk="unlikely", no_notification_reason="a drill")
    officer.change(made["id"], status="closed")

    for body in ({"title": "x"}, {"status": "closed", "title": "x"}):
        answer = officer.change(made["id"], **body)
        assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    times = {"from": ago(hours=1), "to": ago()}
    assert officer.call("POST", f"/{made['id']}/scope", json=times).status_code == 409
    again = officer.change(made["id"], status="open", title="x").json

    assert (again["status"], again["closed_at"], again["title"]) == ("open", None, "x")
    assert [event["action"] for event in officer.events()][-2:] == ["incident.updated", "incident.reopened"]
    assert officer.call("DELETE", f"/{made['id']}").status_code == 405


def test_events_hold_nothing_that_was_typed(officer: Officer) -> None:
    secret = "Jane Roe's diary"
    made = officer.open(title=secret, description=secret)
    officer.change(made["id"], measures=secret, contact=secret)
    officer.tell(made["id"], reference=secret, delay_reason=secret)
    assert len(officer.events()) == 3
    assert "Jane" not in str(officer.events())

"""Drafts of the notices (Art. 33(3), 34(2)), and the mail to the people concerned."""

from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from common import incident_drafts as drafts
from common.settings import settings
from tests.conftest import Api, Inbox, People, Person
from tests.privacy.conftest import Desk
from tests.privacy.incidents import COMPLETE, Officer, ago

NASTY = (
    "<script>alert(1)</script> [x](https://evil.example) # *big* `code` | www.evil.example\n# Heading\n- item\n1. one"
)


@pytest.fixture
def officer(api: Api, admin: pg8000.native.Connection, alice: Person) -> Officer:
    return Officer(api, admin, alice)


@pytest.fixture
def stated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of an operator who says who she is."""
    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("OPERATOR_NAME", "Weber & Söhne <GmbH>")
    monkeypatch.setenv("DPO_CONTACT", "dpo@weber.example")
    settings.cache_clear()
    yield
    settings.cache_clear()


def incident(**fields: Any) -> dict[str, Any]:
    """An incident as the API shows it, with nothing known but its title and times."""
    empty = dict.fromkeys(
        ("description", "consequences", "measures", "contact", "no_notification_reason", "no_communication_reason"), ""
    )
    nothing = dict.fromkeys(
        ("started_at", "ended_at", "affected_people", "affected_records", "told_by_platform", "scope")
    )
    return {
        **{"id": "11111111-1111-4111-8111-111111111111", "title": "Lost laptop", "severity": "P1", "version": 3},
        **{"risk": "undecided", "overdue": False, "notices": [], "data_classes": []},
        **dict.fromkeys(("detected_at", "first_detected_at"), "2026-03-02T08:15:00Z"),
        **{"notify_by": "2026-03-05T08:15:00Z", **empty, **nothing, **fields},
    }


def notice(**fields: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("reference", "delay_reason", "people", "text"))
    given = {"recipient": "authority", "channel": "portal", "told_at": "2026-03-03T10:00:00Z"}
    return {**nothing, **given, **fields}


def test_what_is_not_known_is_marked(stated: None) -> None:
    text = drafts.authority(incident(), "Atlas")
    for needed in (
        *("competent supervisory authority", "contact point", "beginning of the breach", "what happened"),
        *("categories of personal data", "number of people", "number of personal data records", "likely consequences"),
        *("measures", "members, customers", "high risk", "told (Art. 34)"),
    ):
        assert any(needed in mark for mark in text.split("**[to be filled in: ")[1:]), needed
    assert "Controller: Atlas" in text
    assert "First notification" in text
    assert "2026-03-02 08:15 UTC" in text
    assert "2026-03-05 08:15 UTC" in text
    people = drafts.subjects(incident(), "Atlas")
    assert people.count("to be filled in") == 5


def test_what_is_known_stands_in_it(stated: None) -> None:
    known = incident(
        **COMPLETE,
        data_classes=["contact"],
        affected_people=40,
        affected_records=900,
        started_at="2026-03-01T00:00:00Z",
        ended_at="2026-03-02T00:00:00Z",
        risk="high",
        scope={"events": 12, "people": 3},
        told_by_platform={"incident_id": "x", "detected_at": "2026-03-01T07:00:00Z"},
        notices=[
            notice(reference="LDA-7", delay_reason="On leave."),
            notice(recipient="subjects", channel="in_person", people=38),
        ],
    )
    text = drafts.authority(known, "Atlas")
    for part in (
        *COMPLETE.values(),
        *("E-mail addresses", "about 40", "about 900", "12 events", "2026-03-01 00:00 UTC", "2026-03-02 00:00 UTC"),
        *("Supplement to the notification of 2026-03-03 10:00 UTC, reference LDA-7", "high risk", "On leave."),
        *("2026-03-01 07:00 UTC", "people concerned, by in person, 38 people", "They were told on 2026-03-03"),
    ):
        assert part.replace("@", "\\@") in text, part
    assert text.count("to be filled in") == 2  # the authority, and what sort of people they are
    assert drafts.open_points(known) == []
    assert "to be filled in" not in drafts.subjects(known, "Atlas")
    spoken = drafts.words(known, "Atlas")
    assert all(part in spoken for part in COMPLETE.values())


def test_numbers_of_the_audit_trail_are_called_so(stated: None) -> None:
    text = drafts.authority(incident(scope={"events": 12, "people": 3}), "Atlas")
    assert "at least 3, by the audit trail; **[to be filled in" in text


def test_a_late_notice_asks_for_its_reason(stated: None) -> None:
    assert "[to be filled in: reason for the delay]" in drafts.authority(incident(overdue=True), "Atlas")
    assert "reason for the delay]" not in drafts.authority(incident(), "Atlas")
    corrected = incident(first_detected_at="2026-03-01T08:15:00Z")
    assert "Recorded at first as: 2026-03-01 08:15 UTC" in drafts.authority(corrected, "Atlas")


def test_what_was_typed_is_no_markup(stated: None) -> None:
    fields = dict.fromkeys(("title", "description", "consequences", "measures", "contact"), NASTY)
    fields["no_communication_reason"] = NASTY
    nasty = incident(**fields, notices=[notice(reference=NASTY, delay_reason=NASTY)])
    for text in (drafts.authority(nasty, NASTY), drafts.subjects(nasty, NASTY)):
        assert "<" not in text
        for live in (
            " [x]",
            "https://",
            " *big*",
            " `code`",
            "www.evil",
            "\n# Heading",
            "\n> # H",
            "\n> - i",
            "\n> 1.",
        ):
            assert live not in text, live
        assert "Heading" in text


def test_it_is_markdown(officer: Officer, inbox: Inbox, desk: Desk, alice: Person) -> None:
    made = officer.open(title="Lost *laptop*")
    for kind, title in (("authority", "# Notification of a personal data breach"), ("subjects", "# What happened to")):
        answer = officer.call("GET", f"/{made['id']}/drafts/{kind}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
        assert answer.text.startswith(title)
        assert officer.events()[-1]["data"] == {"draft": kind}
        assert officer.call("POST", f"/{made['id']}/drafts/{kind}/mail").status_code == 204
        assert (officer.events()[-1]["action"], officer.events()[-1]["data"]) == (
            "incident.draft_mailed",
            {"draft": kind},
        )
    desk.drain()
    mail = inbox.wait_for(alice.email, "notice of an incident to the supervisory authority")
    assert "Lost \\*laptop\\*" in mail["text"]
    assert made["id"] in mail["text"]
    assert "What happened to your data" in inbox.wait_for(alice.email, "to the people concerned")["text"]


def test_the_people_are_told_once_each(
    officer: Officer, people: People, inbox: Inbox, desk: Desk, alice: Person, dan: Person, vera: Person
) -> None:
    """Dan, who is a member; not who has left, nor who is only named by id; Vera once she is in the scope too."""
    made, gone = officer.open(), people.create("viewer")
    started = ago()
    for person in (dan, gone):
        officer.happened("user.updated", person, person.user_id)
    between = ago()
    officer.happened("user.updated", vera, vera.user_id)
    ended = ago()
    address = f"/{made['id']}/notices/subjects"

    nobody = officer.call("POST", address, json={"text": "x"})
    officer.keep_scope(made["id"], **{"from": started, "to": between})
    open_draft = officer.call("POST", address, json={})
    officer.change(made["id"], **COMPLETE)
    told = officer.call("POST", address, json={})
    again = officer.call("POST", address, json={})
    officer.keep_scope(made["id"], **{"from": started, "to": ended})
    later = officer.call("POST", address, json={"text": "Second\n\nparagraph <b>"})

    assert [answer.status_code for answer in (nobody, open_draft, told, again, later)] == [409, 409, 201, 409, 201]
    assert all(name in open_draft.json["detail"] for name in COMPLETE)
    assert (told.json["recipient"], told.json["channel"], told.json["people"]) == ("subjects", "mail", 1)
    assert all(part in told.json["text"] for part in COMPLETE.values())
    shown = officer.read(made["id"])
    assert [each["people"] for each in shown["notices"]] == [1, 1]
    assert (shown["scope"]["people"], shown["scope"]["told"]) == (3, 2)
    desk.drain()
    for person, part in ((dan, COMPLETE["measures"]), (vera, "paragraph <b>")):
        assert part in inbox.wait_for(person.email, "a breach that concerns your data")["text"]
        assert len(inbox.messages(person.email)) == 1
    assert [inbox.messages(person.email) for person in (alice, gone)] == [[], []]


def test_telling_them_needs_a_fresh_proof(api: Api, admin: pg8000.native.Connection, people: People) -> None:
    stale = people.log_in(people.create("owner"), age_seconds=3600)
    officer = Officer(api, admin, stale)
    made = officer.open()
    answer = officer.call("POST", f"/{made['id']}/notices/subjects", json={"text": "x"})
    assert (answer.status_code, answer.json["code"]) == (403, "step_up_required")

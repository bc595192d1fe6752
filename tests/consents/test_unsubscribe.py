"""GET and POST /v1/consents/unsubscribe: the link in each mail withdraws by one POST, and can do nothing else."""

import base64
import json
import re
import uuid
from pathlib import Path

import pytest

from common import tokens
from common.secrets import Key
from tests.conftest import Api, People, Person
from tests.consents.conftest import Consents

PATH = "/v1/consents/unsubscribe"
ONE_CLICK = {"data": "List-Unsubscribe=One-Click", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}


class Links:
    """Makes what the mail service signs, with the stack's own key."""

    def __init__(self, stack) -> None:
        self._ring = Path(stack["path"]).parent / "secrets" / "unsubscribe-key" / "latest"

    def __call__(self, person: Person, purpose: str, organization: str = "", *, ring: dict | None = None) -> str:
        known = ring or json.loads(self._ring.read_text())
        key = known["keys"][known["active"]]["key"]
        secret = base64.urlsafe_b64decode(key + "=" * (-len(key) % 4))
        said = (person.user_id, organization, purpose)
        mac = tokens._mac(Key("k", "HS256", secret), "unsubscribe", said)
        return ".".join([mac, *said])


@pytest.fixture
def links(stack) -> Links:
    return Links(stack)


def test_one_click_withdraws_at_once(api: Api, vera: Person, links: Links, consents: Consents) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)

    answer = api.post(f"{PATH}?token={links(vera, purpose)}", **ONE_CLICK)

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "unsubscribed" in answer.text
    assert vera.email not in answer.text
    assert not consents.given(vera, purpose)
    last, _ = consents.history(vera, purpose)
    assert (last["granted"], last["source"], last["version"], last["ip"]) == (False, "unsubscribe", 1, "127.0.0.1")
    chain = (
        "SELECT to_json(e) FROM app.audit_events e WHERE tenant_id = platform.organization_id() AND resource_id = :r"
    )
    ((event,),) = consents.admin.run(chain, r=last["id"])
    assert (event["action"], event["actor_type"]) == ("consent.withdrawn", "system")
    assert event["data"] == {"purpose": purpose, "version": 1, "source": "unsubscribe"}


def test_again_is_the_same(api: Api, vera: Person, links: Links, consents: Consents) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    path = f"{PATH}?token={links(vera, purpose)}"

    answers = [api.post(path, **ONE_CLICK) for _ in range(3)]

    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert len(consents.history(vera, purpose)) == 2
    consents.give(vera, purpose)
    assert api.post(path, **ONE_CLICK).status_code == 200
    assert not consents.given(vera, purpose), "the link of an older mail withdraws a newer consent as well"


def test_who_only_looks_withdraws_nothing(api: Api, vera: Person, links: Links, consents: Consents) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    path = f"{PATH}?token={links(vera, purpose)}"

    page = api.get(path)

    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
    assert "script" not in page.text
    assert re.search(r'<form method="post">\s*<button', page.text)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert api.request("HEAD", path).status_code == 200
    assert consents.given(vera, purpose)
    assert len(consents.history(vera, purpose)) == 1


def test_a_consent_towards_an_organization(
    api: Api, alice: Person, vera: Person, links: Links, consents: Consents
) -> None:
    purpose = consents.of_organization(alice)
    consents.give(vera, purpose)

    assert api.post(f"{PATH}?token={links(vera, purpose)}", **ONE_CLICK).status_code == 200
    assert consents.given(vera, purpose, to_organization=True), "that was the platform's purpose of this name"
    assert api.post(f"{PATH}?token={links(vera, purpose, alice.tenant_id)}", **ONE_CLICK).status_code == 200

    assert not consents.given(vera, purpose, to_organization=True)
    last = consents.events(alice.tenant_id)[-1]
    assert (last["action"], last["actor_type"], last["data"]["source"]) == (
        "consent.withdrawn",
        "system",
        "unsubscribe",
    )


def test_who_never_agreed_stays_unasked(api: Api, vera: Person, links: Links, consents: Consents) -> None:
    purpose = consents.of_platform()
    nobody = Person(str(uuid.uuid4()), "", "", "", "", "")

    for person in (vera, nobody):
        assert api.post(f"{PATH}?token={links(person, purpose)}", **ONE_CLICK).status_code == 200

    assert consents.history(vera, purpose) == []


def test_a_link_that_is_not_ours(api: Api, vera: Person, mallory: Person, links: Links, consents: Consents) -> None:
    purpose, other = consents.of_platform(), consents.of_platform()
    for asked in (purpose, other):
        consents.give(vera, asked)
    good = links(vera, purpose)
    mac = good.split(".")[0]
    strange = {"active": "a", "keys": {"a": {"algorithm": "HS256", "key": "A" * 43}}}
    forged = [
        good[:-1],
        good.replace(vera.user_id, mallory.user_id),
        links(mallory, purpose).replace(mallory.user_id, vera.user_id),
        f"{mac}.{vera.user_id}..{other}",
        f"{mac}.{vera.user_id}.{vera.tenant_id}.{purpose}",
        links(vera, purpose, ring=strange),
        *(f"{mac}{rest}" for rest in ("", ".", "..", "...", ".x.y.z")),
        "ä.b.c.d",
    ]

    for token in forged:
        for method in ("GET", "POST"):
            answer = api.request(method, PATH, params={"token": token})
            assert (answer.status_code, answer.json["code"]) == (401, "invalid_token"), token
    assert api.post(PATH).status_code == 422
    assert consents.given(vera, purpose)
    assert consents.given(vera, other)


def test_what_ended_with_the_membership_leaves_no_new_trace(
    api: Api, people: People, alice: Person, vera: Person, links: Links, consents: Consents
) -> None:
    purpose = consents.of_organization(alice)
    consents.give(vera, purpose)
    consents.admin.run("DELETE FROM app.members WHERE user_id = :u", u=vera.user_id)

    assert api.post(f"{PATH}?token={links(vera, purpose, alice.tenant_id)}", **ONE_CLICK).status_code == 200

    known = "SELECT granted FROM app.member_consents WHERE user_id = :u"
    assert consents.admin.run(known, u=vera.user_id) == [[True]]
    people.join(vera.user_id, alice.tenant_id, "viewer")
    assert api.post(f"{PATH}?token={links(vera, purpose, alice.tenant_id)}", **ONE_CLICK).status_code == 200
    assert consents.admin.run(known, u=vera.user_id) == [[True]], "a new membership begins without"


def test_who_is_being_erased_withdraws_without_address_and_browser(
    api: Api, vera: Person, links: Links, consents: Consents
) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    consents.admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :u", u=vera.user_id)

    assert api.post(f"{PATH}?token={links(vera, purpose)}", **ONE_CLICK).status_code == 200

    newest = (
        "SELECT granted, ip, user_agent FROM identity.consents WHERE account_id = :u AND purpose = :p"
        " ORDER BY at DESC LIMIT 1"
    )
    assert consents.admin.run(newest, u=vera.user_id, p=purpose) == [[False, None, None]]


@pytest.mark.parametrize(
    ("scope", "kept"), [("user", [[True, False], [False, True]]), ("organization", [[True, False]])]
)
def test_nor_does_an_organization_where_one_is_erased(
    api: Api, alice: Person, vera: Person, links: Links, consents: Consents, scope: str, kept: list
) -> None:
    """Her part in it, or all of it."""
    purpose, job = consents.of_organization(alice), str(uuid.uuid4())
    consents.give(vera, purpose)
    run = consents.admin.run
    run("INSERT INTO platform.jobs (id, kind, status) VALUES (:id, 'deletion', 'done')", id=job)
    run(
        "INSERT INTO platform.deletions (job_id, subject_id, tenant_id, requested_by, scope, execute_after, due_at,"
        " receipt_hash, frozen_at) VALUES (:id, CAST(:u AS uuid), :t, :by, :scope, now(), now(), 'x', now())",
        id=job,
        u=vera.user_id if scope == "user" else None,
        t=alice.tenant_id,
        by=alice.user_id,
        scope=scope,
    )
    if scope == "organization":
        whole = "INSERT INTO platform.deletion_organizations (job_id, tenant_id, mode) VALUES (:id, :t, 'whole')"
        run(whole, id=job, t=alice.tenant_id)

    assert api.post(f"{PATH}?token={links(vera, purpose, alice.tenant_id)}", **ONE_CLICK).status_code == 200

    rows = "SELECT granted, ip IS NULL AND user_agent IS NULL FROM app.member_consents WHERE user_id = :u ORDER BY at"
    assert run(rows, u=vera.user_id) == kept


def test_a_chain_that_was_tampered_with_keeps_nobody_subscribed(
    api: Api, alice: Person, vera: Person, links: Links, consents: Consents
) -> None:
    purpose = consents.of_organization(alice)
    consents.give(vera, purpose)
    put_back = "UPDATE app.audit_heads SET seq = seq - 1 WHERE tenant_id = :t"
    consents.admin.run(put_back, t=alice.tenant_id)

    assert api.post(f"{PATH}?token={links(vera, purpose, alice.tenant_id)}", **ONE_CLICK).status_code == 200

    assert not consents.given(vera, purpose, to_organization=True)


def test_what_comes_with_the_post_is_not_read(api: Api, vera: Person, links: Links, consents: Consents) -> None:
    """RFC 8058 allows either form; whoever is logged in by a cookie, or with a token that is over, gets through."""
    purpose = consents.of_platform()
    path = f"{PATH}?token={links(vera, purpose)}"
    posts = (
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {"data": b"\xff{", "headers": {"Content-Type": "application/json"}},
        {"headers": {"Cookie": "__Host-access=x; __Host-csrf=y"}},
        {"headers": {"Authorization": "Bearer x"}},
    )
    for post in posts:
        consents.give(vera, purpose)
        assert api.post(path, **post).status_code == 200, post
        assert not consents.given(vera, purpose), post

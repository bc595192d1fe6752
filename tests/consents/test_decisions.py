"""GET /v1/consents, PUT /v1/consents/{purpose}, GET /v1/consents/history."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.conftest import Api, People, Person
from tests.consents.conftest import GPC, TEXT, Consents, digest


def test_to_give_and_to_withdraw(api: Api, vera: Person, consents: Consents) -> None:
    """A viewer, who may change nothing, decides about herself."""
    purpose = consents.of_platform()
    assert consents.mine(vera, purpose) is None

    given = consents.put(vera, purpose, True, 1, **{"User-Agent": "Browser 1"})

    assert given.status_code == 200, given.text
    at = given.json["at"]
    assert given.json == {"purpose": purpose, "version": 1, "granted": True, "at": at, "current_version": 1}
    assert consents.mine(vera, purpose) == given.json
    assert consents.given(vera, purpose)
    withdrawn = consents.withdraw(vera, purpose)
    assert (withdrawn["granted"], withdrawn["version"]) == (False, 1)
    assert consents.mine(vera, purpose) == withdrawn
    assert not consents.given(vera, purpose)
    last, first = consents.history(vera, purpose)
    assert (last["granted"], last["at"]) == (False, withdrawn["at"])
    assert last["at"] > first["at"]
    assert first == {
        "id": first["id"],
        **{"purpose": purpose, "scope": "platform", "version": 1, "text_hash": digest(TEXT), "granted": True},
        **{"source": "settings", "signal": None, "ip": "127.0.0.1", "user_agent": "Browser 1", "at": at},
    }
    events = consents.events(vera.tenant_id)
    assert [event["action"] for event in events] == ["consent.granted", "consent.withdrawn"]
    assert [event["resource_id"] for event in events] == [first["id"], last["id"]]
    assert {event["actor_id"] for event in events} == {vera.user_id}
    assert events[0]["data"] == {"purpose": purpose, "version": 1, "source": "settings"}


def test_a_consent_towards_the_organization(api: Api, alice: Person, vera: Person, consents: Consents) -> None:
    purpose = consents.of_organization(alice, marketing=False)

    consents.give(vera, purpose)

    assert consents.given(vera, purpose, to_organization=True)
    assert not consents.given(alice, purpose, to_organization=True)
    assert consents.mine(alice, purpose) is None
    assert consents.history(alice, purpose) == []
    assert [each["scope"] for each in consents.history(vera, purpose)] == ["organization"]


def test_a_refusal_is_written_down(vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()

    refused = consents.withdraw(vera, purpose)

    assert (refused["granted"], refused["version"]) == (False, 1)
    assert [event["action"] for event in consents.events(vera.tenant_id)] == ["consent.refused"]


def test_to_give_takes_the_text_as_it_is_now(vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    consents.of_platform("Another", purpose=purpose)

    stale = consents.put(vera, purpose, True, 1)
    future = consents.put(vera, purpose, True, 3)

    for answer in (stale, future):
        assert (answer.status_code, answer.json["code"]) == (409, "conflict")
        assert "text has changed" in answer.json["detail"]
    mine = consents.mine(vera, purpose)
    assert (mine["granted"], mine["version"], mine["current_version"]) == (True, 1, 2)
    assert not consents.given(vera, purpose), "she has not agreed to the text as it is now"
    consents.give(vera, purpose, 2)
    assert consents.given(vera, purpose)


@pytest.mark.parametrize(("said", "written"), [(None, 1), (1, 1), (2, 2), (99, 1)])
def test_to_withdraw_takes_nothing(vera: Person, consents: Consents, said: int | None, written: int) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    consents.of_platform("Another", purpose=purpose)

    answer = consents.put(vera, purpose, False, said)

    assert (answer.status_code, answer.json["granted"], answer.json["version"]) == (200, False, written)


def test_the_same_again_changes_nothing(vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    first = consents.give(vera, purpose)

    assert consents.give(vera, purpose) == first
    assert consents.give(vera, purpose, 1, **GPC) == first
    withdrawn = consents.withdraw(vera, purpose)
    assert consents.withdraw(vera, purpose) == withdrawn
    assert len(consents.history(vera, purpose)) == 2
    assert len(consents.events(vera.tenant_id)) == 2


def test_a_consent_is_renewed_before_it_lapses(vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    consents.give(vera, purpose)
    old = "UPDATE identity.consents SET at = at - interval '1 day' * :days WHERE purpose = :p AND account_id = :a"
    consents.admin.run(old, days=3 * 365 - 10, p=purpose, a=vera.user_id)
    assert consents.given(vera, purpose)

    consents.give(vera, purpose)

    assert len(consents.history(vera, purpose)) == 2
    consents.admin.run(old, days=3 * 366, p=purpose, a=vera.user_id)
    assert not consents.given(vera, purpose), "it lapses with its proof"
    assert consents.mine(vera, purpose) is None


def test_a_consent_towards_an_organization_lapses_too(alice: Person, vera: Person, consents: Consents) -> None:
    purpose = consents.of_organization(alice)
    consents.give(vera, purpose)
    old = "UPDATE app.member_consents SET at = at - interval '1 day' * :days WHERE user_id = :u"
    consents.admin.run(
        "UPDATE app.members SET created_at = created_at - interval '4 years' WHERE user_id = :u", u=vera.user_id
    )
    consents.admin.run(old, days=3 * 365 - 10, u=vera.user_id)
    assert consents.given(vera, purpose, to_organization=True)

    consents.admin.run(old, days=20, u=vera.user_id)

    assert not consents.given(vera, purpose, to_organization=True)
    assert consents.mine(vera, purpose) is None


@pytest.mark.parametrize("to_organization", [False, True])
def test_a_clock_that_was_put_back_changes_no_order(
    alice: Person, vera: Person, consents: Consents, to_organization: bool
) -> None:
    purpose = consents.of_organization(alice) if to_organization else consents.of_platform()
    consents.give(vera, purpose)
    table = "app.member_consents" if to_organization else "identity.consents"
    consents.admin.run(f"UPDATE {table} SET at = at + interval '1 hour' WHERE purpose = :p", p=purpose)

    consents.withdraw(vera, purpose)

    assert not consents.given(vera, purpose, to_organization=to_organization)
    last, first = consents.history(vera, purpose)
    assert (last["granted"], first["granted"]) == (False, True)
    assert last["at"] > first["at"]


def test_an_explicit_yes_counts_though_the_browser_signals(vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()

    consents.give(vera, purpose, 1, **GPC)

    assert consents.given(vera, purpose)
    assert [each["signal"] for each in consents.history(vera, purpose)] == ["gpc"]


def test_nobody_fills_the_proof(vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    consents.admin.run(
        "SELECT platform.record_consent(CAST(:a AS uuid), NULL, :p, 1, n % 2 = 0, 'settings', NULL, NULL, NULL)"
        " FROM generate_series(0, 48) n",
        a=vera.user_id,
        p=purpose,
    )
    consents.withdraw(vera, purpose)

    answer = consents.put(vera, purpose, True, 1)

    assert (answer.status_code, answer.json["code"]) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) > 0
    assert not consents.given(vera, purpose)
    assert consents.put(vera, purpose, False).status_code == 200, "withdrawing is always possible"


def test_decisions_at_once_stand_one_after_the_other(api: Api, vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    api_of = [Api(api.base) for _ in range(8)]

    def decide(n: int) -> int:
        body = {"granted": n % 2 == 0, "version": 1}
        return api_of[n].put(f"/v1/consents/{purpose}", json=body, headers=vera).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(decide, range(8))) == {200}

    history = consents.history(vera, purpose)
    times = [each["at"] for each in history]
    assert sorted(set(times), reverse=True) == times
    said = [each["granted"] for each in history]
    assert all(one != other for one, other in pairwise(said)), "the same twice is one decision"
    assert consents.mine(vera, purpose)["granted"] == said[0]


def test_a_text_that_changes_meanwhile_is_not_agreed_to(
    api: Api, alice: Person, vera: Person, consents: Consents
) -> None:
    """Whichever comes first: either the consent is to the text that was, or it is refused."""
    purpose = consents.of_organization(alice)

    def change(_: int) -> int:
        path = f"/v1/consents/purposes/{purpose}"
        return Api(api.base).patch(path, json={"text": f"T {time.monotonic_ns()}"}, headers=alice).status_code

    def give(_: int) -> int:
        body = {"granted": True, "version": 1}
        return Api(api.base).put(f"/v1/consents/{purpose}", json=body, headers=vera).status_code

    with ThreadPoolExecutor(2) as pool:
        changed, given = pool.submit(change, 0), pool.submit(give, 0)

    assert changed.result() == 200
    assert given.result() in {200, 409}
    assert not consents.given(vera, purpose, to_organization=True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"granted": True}, "version"),
        ({"granted": True, "version": None}, "version"),
        ({"granted": True, "version": 0}, "version"),
        ({"granted": True, "version": 2**31}, "version"),
        ({"granted": True, "version": "1"}, "version"),
        ({"granted": "true", "version": 1}, "granted"),
        ({"granted": 1, "version": 1}, "granted"),
        ({"version": 1}, "granted"),
        ({"granted": False, "source": "registration"}, "source"),
    ],
)
def test_what_is_no_decision(vera: Person, consents: Consents, body: dict, field: str) -> None:
    purpose = consents.of_platform()

    answer = consents.api.put(f"/v1/consents/{purpose}", json=body, headers=vera)

    assert (answer.status_code, list(answer.json["errors"])) == (422, [field])
    assert consents.history(vera, purpose) == []


def test_an_unknown_purpose(vera: Person, consents: Consents) -> None:
    for granted in (True, False):
        answer = consents.put(vera, "nobody-asks-for-this", granted, 1)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_a_program_does_not_consent(api: Api, alice: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    body = {"name": "robot", "permissions": ["consent.manage"], "expires_at": "2027-01-01T00:00:00Z"}
    made = api.post("/v1/api-keys", json=body, headers=alice)
    key = {"Authorization": f"Bearer {made.json['key']}"}

    answers = [consents.put(key, purpose, True, 1), api.get("/v1/consents", headers=key)]

    assert {(answer.status_code, answer.json["code"]) for answer in answers} == {(403, "permission_denied")}
    assert consents.mine(alice, purpose) is None
    text = {"purpose": f"k-{made.json['id'][:8]}", "text": TEXT, "marketing": False}
    assert api.post("/v1/consents/purposes", json=text, headers=key).status_code == 201, "texts are an organization's"


def test_a_suspended_organization_does_not_stand_in_the_way(alice: Person, consents: Consents) -> None:
    purpose, own = consents.of_platform(), consents.of_organization(alice)
    consents.give(alice, purpose)
    consents.give(alice, own)
    consents.admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)

    assert consents.withdraw(alice, purpose)["granted"] is False
    assert consents.withdraw(alice, own)["granted"] is False
    assert len(consents.history(alice, purpose)) == 2
    assert len(consents.events(alice.tenant_id, "consent.withdrawn")) == 2


def test_consents_end_with_the_membership(people: People, alice: Person, vera: Person, consents: Consents) -> None:
    own, of_platform = consents.of_organization(alice), consents.of_platform()
    consents.give(vera, own)
    consents.give(vera, of_platform)

    assert consents.api.delete(f"/v1/members/{vera.user_id}", headers=alice).status_code == 204

    assert not consents.given(vera, own, to_organization=True)
    assert consents.given(vera, of_platform), "the platform is another controller"
    people.join(vera.user_id, alice.tenant_id, "viewer")
    again = people.log_in(vera)
    assert not consents.given(vera, own, to_organization=True), "a new membership begins without"
    assert consents.mine(again, own) is None
    assert len(consents.history(again, own)) == 1, "the proof stays"
    consents.give(again, own)
    assert consents.given(vera, own, to_organization=True)


def test_the_history_comes_in_pages(vera: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    for _ in range(2):
        consents.give(vera, purpose)
        consents.withdraw(vera, purpose)

    first = consents.api.get("/v1/consents/history?limit=3", headers=vera)
    rest = consents.api.get(f"/v1/consents/history?limit=3&cursor={first.json['next_cursor']}", headers=vera)

    assert 'rel="next"' in first.headers["Link"]
    found = first.json["items"] + rest.json["items"]
    assert found == consents.history(vera, purpose)
    assert [each["granted"] for each in found] == [False, True, False, True]
    assert rest.json["next_cursor"] is None

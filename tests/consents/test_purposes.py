"""GET and POST /v1/consents/purposes, PATCH /v1/consents/purposes/{purpose}."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from pg8000.exceptions import DatabaseError

from tests.conftest import Api, People, Person
from tests.consents.conftest import TEXT, Consents, digest

PATH = "/v1/consents/purposes"


def new(**changes):
    return {"purpose": f"o-{uuid.uuid4().hex[:12]}", "text": TEXT, "marketing": True, **changes}


def listed(api, person, purpose):
    items = api.get(PATH, headers=person).json["items"]
    return next((item for item in items if item["purpose"] == purpose), None)


def test_it_works(api: Api, alice: Person, vera: Person, consents: Consents) -> None:
    body = new(text="Dürfen wir?\n\nYes, we mean <b>it</b> 🙂")

    answer = api.post(PATH, json=body, headers=alice)

    assert answer.status_code == 201, answer.text
    assert (answer.headers["ETag"], answer.headers["Location"]) == ('"1"', f"{PATH}/{body['purpose']}")
    created_at = answer.json["created_at"]
    assert created_at.endswith("Z")
    hashed = digest(body["text"])
    known = {**body, "version": 1, "text_hash": hashed, "scope": "organization", "created_at": created_at}
    assert answer.json == known
    assert listed(api, vera, body["purpose"]) == known
    (event,) = consents.events(alice.tenant_id)
    assert (event["action"], event["resource_id"]) == ("consent_purpose.created", body["purpose"])
    assert event["data"] == {"version": 1, "marketing": True}


def test_another_text_is_a_new_version_and_the_same_is_none(api: Api, alice: Person, consents: Consents) -> None:
    purpose = consents.of_organization(alice)
    path = f"{PATH}/{purpose}"

    changed = api.patch(path, json={"text": "Something else"}, headers={**alice, "If-Match": '"1"'})
    same = api.patch(path, json={"text": "Something else"}, headers=alice)
    stale = api.patch(path, json={"text": "A third"}, headers={**alice, "If-Match": '"1"'})

    assert (changed.status_code, changed.json["version"], changed.headers["ETag"]) == (200, 2, '"2"')
    assert (same.status_code, same.json) == (200, changed.json)
    assert (stale.status_code, stale.json["code"]) == (412, "precondition_failed")
    assert listed(api, alice, purpose)["text"] == "Something else"
    assert [event["action"] for event in consents.events(alice.tenant_id)] == [
        "consent_purpose.created",
        "consent_purpose.updated",
    ]
    kept = "SELECT version, text FROM app.consent_texts WHERE tenant_id = :t ORDER BY version"
    assert consents.admin.run(kept, t=alice.tenant_id) == [[1, TEXT], [2, "Something else"]]


def test_texts_changed_at_once_are_versions_one_after_the_other(api: Api, alice: Person, consents: Consents) -> None:
    purpose = consents.of_organization(alice)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: Api(api.base).patch(
            f"{PATH}/{purpose}", json={"text": f"Text {n}"}, headers=alice), range(6)))  # fmt: skip

    assert [answer.status_code for answer in answers] == [200] * 6
    kept = consents.admin.run("SELECT version FROM app.consent_texts WHERE purpose = :p ORDER BY 1", p=purpose)
    assert kept == [[n] for n in range(1, 8)]


def test_a_name_is_taken_once(api: Api, alice: Person, mallory: Person, consents: Consents) -> None:
    mine, theirs = consents.of_organization(alice), consents.of_platform()

    for taken in (mine, theirs):
        answer = api.post(PATH, json=new(purpose=taken), headers=alice)
        assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert api.post(PATH, json=new(purpose=mine), headers=mallory).status_code == 201  # names are each organization's
    with pytest.raises(DatabaseError, match="an organization uses this name"):
        consents.admin.run("SELECT platform.put_consent_purpose(:p, true, 'x')", p=mine)
    with pytest.raises(DatabaseError, match="another marketing flag"):
        consents.admin.run("SELECT platform.put_consent_purpose(:p, false, 'x')", p=theirs)


def test_the_platforms_texts_are_the_operators(api: Api, alice: Person, consents: Consents) -> None:
    purpose = consents.of_platform()
    assert consents.of_platform("Another", purpose=purpose) == consents.of_platform("Another", purpose=purpose)
    shown = listed(api, alice, purpose)

    answer = api.patch(f"{PATH}/{purpose}", json={"text": "Mine"}, headers=alice)

    assert (shown["version"], shown["text"], shown["scope"]) == (2, "Another", "platform")
    assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")
    assert listed(api, alice, purpose) == shown
    assert consents.events(alice.tenant_id, "access.denied")


def test_another_organization_sees_nothing(api: Api, alice: Person, mallory: Person, consents: Consents) -> None:
    purpose = consents.of_organization(alice)

    answer = api.patch(f"{PATH}/{purpose}", json={"text": "Mine"}, headers=mallory)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert listed(api, mallory, purpose) is None
    assert consents.put(mallory, purpose, True, 1).status_code == 404


def test_it_is_made_once_under_an_idempotency_key(api: Api, alice: Person, consents: Consents) -> None:
    body, headers = new(), {**alice, "Idempotency-Key": uuid.uuid4().hex}

    first, again = (api.post(PATH, json=body, headers=headers) for _ in range(2))

    assert (again.status_code, again.json, again.headers["Idempotent-Replayed"]) == (201, first.json, "true")
    assert len(consents.events(alice.tenant_id)) == 1


def test_an_organization_asks_for_so_much_and_no_more(api: Api, alice: Person, consents: Consents) -> None:
    purpose = consents.of_organization(alice)
    consents.admin.run(
        "INSERT INTO app.consent_texts (tenant_id, purpose, version, marketing, text, text_hash, created_by)"
        " SELECT tenant_id, 'x' || n, 1, marketing, text, text_hash, created_by"
        " FROM app.consent_texts, generate_series(1, 99) n WHERE purpose = :p",
        p=purpose,
    )

    answer = api.post(PATH, json=new(), headers=alice)

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert api.patch(f"{PATH}/{purpose}", json={"text": "Another"}, headers=alice).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (new(purpose="Upper"), "purpose"),
        (new(purpose="1st"), "purpose"),
        (new(purpose=""), "purpose"),
        (new(purpose="a" * 65), "purpose"),
        (new(purpose="a\n"), "purpose"),
        (new(purpose="history"), "purpose"),
        (new(text=""), "text"),
        (new(text=" \n "), "text"),
        (new(text="x" * 20_001), "text"),
        (new(text="a\x00b"), "text"),
        (new(marketing="yes"), "marketing"),
        (new(marketing=1), "marketing"),
        (new(version=3), "version"),
        ({"purpose": "x", "text": "y"}, "marketing"),
    ],
)
def test_what_cannot_be_asked(api: Api, alice: Person, body: dict, field: str) -> None:
    answer = api.post(PATH, json=body, headers=alice)

    assert (answer.status_code, answer.json["code"], list(answer.json["errors"])) == (422, "invalid_request", [field])


def test_a_text_may_be_long(api: Api, alice: Person) -> None:
    answer = api.post(PATH, json=new(text="ä" * 20_000), headers=alice)

    assert (answer.status_code, len(answer.json["text"])) == (201, 20_000)


def test_it_needs_the_permission(api: Api, people: People, alice: Person, vera: Person, consents: Consents) -> None:
    purpose = consents.of_organization(alice)

    assert api.post(PATH, json=new(), headers=vera).status_code == 403
    assert api.patch(f"{PATH}/{purpose}", json={"text": "x"}, headers=vera).status_code == 403
    assert api.get(PATH, headers=vera).status_code == 200
    assert api.get(PATH).status_code == 401


def test_there_is_one_set_of_names(alice: Person, consents: Consents) -> None:
    """By whatever way a text comes in: a row of an import as well, and a purpose of the operator's."""
    taken, own = consents.of_platform(), consents.of_organization(alice)
    row = (
        "INSERT INTO app.consent_texts (tenant_id, purpose, version, marketing, text, text_hash, created_by)"
        " VALUES (:t, :p, 1, false, 'x', encode(sha256('x'), 'hex'), :u)"
    )
    with pytest.raises(DatabaseError) as refused:
        consents.admin.run(row, t=alice.tenant_id, p=taken, u=alice.user_id)
    assert refused.value.args[0]["C"] == "23505"

    with pytest.raises(DatabaseError) as refused:
        consents.admin.run("SELECT platform.put_consent_purpose(:p, true, 'x')", p=own)
    assert refused.value.args[0]["C"] == "CX409"

"""Members: roles change, people leave and are removed, and somebody always owns the organization."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Api, last_audit_event
from tests.organizations.support import membership, person_with, role


def change(api, by, user_id, name, **headers):
    return api.patch(f"/v1/members/{user_id}", json={"role": name}, headers={**by, **headers})


def refusal(answer):
    return answer.status_code, answer.json["code"]


def test_it_works(api, admin, alice, dan):
    answer = change(api, alice, dan.user_id, "viewer", **{"If-Match": '"1"'})

    assert answer.status_code == 200, answer.text
    assert (answer.json["user_id"], answer.json["role"], answer.json["version"]) == (dan.user_id, "viewer", 2)
    assert (answer.json["email"], answer.headers["ETag"]) == (dan.email, '"2"')
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=dan).status_code == 403
    event = last_audit_event(admin, alice)
    assert event["action"] == "access.denied"
    changed = admin.run(
        "SELECT resource_id, data FROM app.audit_events WHERE tenant_id = :t AND action = 'member.role_changed'",
        t=alice.tenant_id,
    )
    assert changed == [[dan.user_id, {"before": "developer", "after": "viewer"}]]


def test_a_role_of_ones_own(api, admin, alice, dan):
    made = role(api, alice, "Auditor", "audit.view", "organizations.view")

    answer = change(api, alice, dan.user_id, "Auditor")

    assert answer.json["role"] == "Auditor"
    assert membership(admin, alice.tenant_id, dan.user_id) == (None, made["id"])
    assert [m["user_id"] for m in api.get("/v1/members?role=Auditor", headers=alice).json["items"]] == [dan.user_id]
    assert api.get("/v1/audit-events", headers=dan).status_code == 200
    assert api.get("/v1/projects", headers=dan).status_code == 403
    assert api.get("/v1/auth/me", headers=dan).json["organization"]["role"] == "Auditor"
    assert change(api, alice, dan.user_id, "member").json["role"] == "member"
    assert membership(admin, alice.tenant_id, dan.user_id) == ("member", None)


@pytest.mark.parametrize("name", ["king", "Owner", "", "x" * 65])
def test_an_unknown_role(api, alice, dan, name):
    answer = change(api, alice, dan.user_id, name)
    assert refusal(answer) == (422, "invalid_request")
    assert "role" in answer.json["errors"]


def test_another_organizations_role_and_people(api, alice, dan, mallory):
    role(api, mallory, "Theirs")
    assert refusal(change(api, alice, dan.user_id, "Theirs"))[0] == 422
    assert refusal(change(api, alice, mallory.user_id, "viewer")) == (404, "not_found")
    assert refusal(api.delete(f"/v1/members/{mallory.user_id}", headers=alice)) == (404, "not_found")
    assert api.get("/v1/organization", headers=mallory).status_code == 200


def test_who_may(api, alice, dan, vera):
    assert refusal(change(api, dan, vera.user_id, "member")) == (403, "permission_denied")
    assert refusal(api.delete(f"/v1/members/{vera.user_id}", headers=dan)) == (403, "permission_denied")
    assert api.get("/v1/members", headers=vera).status_code == 200


def test_a_role_change_needs_a_fresh_proof(api, people, alice, dan):
    old = people.log_in(alice, age_seconds=301)
    assert refusal(change(api, old, dan.user_id, "viewer")) == (403, "step_up_required")


def test_an_admin_is_no_match_for_an_owner(api, admin, people, alice, dan):
    boss = people.create("admin", alice.tenant_id)

    demotion = change(api, boss, alice.user_id, "viewer")
    promotion = change(api, boss, dan.user_id, "owner")
    herself = change(api, boss, boss.user_id, "owner")
    removal = api.delete(f"/v1/members/{alice.user_id}", headers=boss)

    for answer in (demotion, promotion, herself, removal):
        assert refusal(answer) == (403, "permission_denied")
        assert "billing.edit, organizations.delete" in answer.json["detail"]
    assert change(api, boss, dan.user_id, "admin").status_code == 200
    assert membership(admin, alice.tenant_id, alice.user_id) == ("owner", None)


def test_nobody_gives_what_she_lacks(api, people, alice, dan):
    manager = person_with(api, people, alice, "user.manage", "users.remove", "project.view", name="Manager")
    role(api, alice, "Onlooker", "project.view")

    assert refusal(change(api, manager, dan.user_id, "Onlooker")) == (403, "permission_denied")  # dan has more
    assert refusal(api.delete(f"/v1/members/{dan.user_id}", headers=manager)) == (403, "permission_denied")
    assert change(api, alice, dan.user_id, "Onlooker").status_code == 200
    assert refusal(change(api, manager, dan.user_id, "viewer")) == (403, "permission_denied")
    assert change(api, manager, dan.user_id, "Manager").status_code == 200
    assert api.delete(f"/v1/members/{dan.user_id}", headers=manager).status_code == 204


def test_stale_and_weak_versions(api, alice, dan):
    assert refusal(change(api, alice, dan.user_id, "viewer", **{"If-Match": '"7"'})) == (412, "precondition_failed")
    assert refusal(change(api, alice, dan.user_id, "viewer", **{"If-Match": 'W/"1"'})) == (412, "precondition_failed")
    stale = api.delete(f"/v1/members/{dan.user_id}", headers={**alice, "If-Match": '"7"'})
    assert refusal(stale) == (412, "precondition_failed")


def test_a_removed_member_is_out_at_once(api, admin, alice, dan, people):
    again = people.log_in(dan)
    body = {"name": "robot", "permissions": ["project.view"]}
    assert change(api, alice, dan.user_id, "admin").status_code == 200
    key = {"Authorization": f"Bearer {api.post('/v1/api-keys', json=body, headers=again).json['key']}"}
    team = api.post("/v1/teams", json={"name": "Blue"}, headers=alice).json["id"]
    assert api.put(f"/v1/teams/{team}/members/{dan.user_id}", headers=alice).status_code == 204
    assert api.get("/v1/projects", headers=key).status_code == 200

    assert api.delete(f"/v1/members/{dan.user_id}", headers=alice).status_code == 204
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"]) == ("member.removed", dan.user_id)
    assert event["data"] == {"role": "admin", "api_keys": 1}

    for headers in (dan, again, key):
        assert refusal(api.get("/v1/projects", headers=headers)) == (401, "invalid_token")
    assert api.get(f"/v1/teams/{team}/members", headers=alice).json["items"] == []
    people.join(dan.user_id, alice.tenant_id, "viewer")
    for headers in (dan, key):  # a later membership revives nothing
        assert api.get("/v1/projects", headers=headers).status_code == 401
    assert api.get("/v1/projects", headers=people.log_in(dan)).status_code == 200


def test_anybody_may_leave(api, admin, alice, vera):
    assert api.delete(f"/v1/members/{vera.user_id}", headers=vera).status_code == 204
    assert api.get("/v1/projects", headers=vera).status_code == 401
    event = last_audit_event(admin, alice)
    assert (event["action"], event["actor_id"]) == ("member.left", vera.user_id)


def test_a_key_does_not_remove_its_maker(api, alice, people):
    maker = people.create("admin", alice.tenant_id)
    body = {"name": "robot", "permissions": ["project.view"]}
    key = {"Authorization": f"Bearer {api.post('/v1/api-keys', json=body, headers=maker).json['key']}"}
    assert refusal(api.delete(f"/v1/members/{maker.user_id}", headers=key)) == (403, "permission_denied")


def test_a_key_that_may_remove_is_no_match_for_its_maker(api, admin, people, alice):
    people.create("owner", alice.tenant_id)
    body = {"name": "robot", "permissions": ["users.remove"]}
    key = {"Authorization": f"Bearer {api.post('/v1/api-keys', json=body, headers=alice).json['key']}"}
    assert refusal(api.delete(f"/v1/members/{alice.user_id}", headers=key)) == (403, "permission_denied")
    assert last_audit_event(admin, alice)["action"] != "member.left"


def test_a_key_removes_whom_it_may(api, alice, dan, vera):
    body = {"name": "robot", "permissions": ["users.remove", *api.get("/v1/auth/me", headers=vera).json["permissions"]]}
    key = {"Authorization": f"Bearer {api.post('/v1/api-keys', json=body, headers=alice).json['key']}"}
    assert refusal(api.delete(f"/v1/members/{dan.user_id}", headers=key)) == (403, "permission_denied")
    assert api.delete(f"/v1/members/{vera.user_id}", headers=key).status_code == 204


def test_the_last_owner_stays(api, admin, people, alice, dan):
    assert refusal(change(api, alice, alice.user_id, "admin")) == (409, "last_owner")
    assert refusal(api.delete(f"/v1/members/{alice.user_id}", headers=alice)) == (409, "last_owner")
    other = people.create("owner", alice.tenant_id)
    assert change(api, alice, alice.user_id, "owner").status_code == 200
    assert change(api, alice, alice.user_id, "admin").status_code == 200
    assert refusal(api.delete(f"/v1/members/{other.user_id}", headers=other)) == (409, "last_owner")


@pytest.mark.parametrize("going", ["frozen", "asked"])
def test_an_owner_who_is_being_erased_does_not_count(api, admin, people, alice, going):
    other = people.create("owner", alice.tenant_id)
    if going == "frozen":
        admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :id", id=other.user_id)
    else:
        admin.run("INSERT INTO platform.jobs (id, kind) VALUES (:id, 'deletion')", id=other.session_id)
        admin.run(
            "INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, receipt_hash)"
            " VALUES (:id, :u, 'me', now() + interval '1 day', now(), 'x')",
            id=other.session_id,
            u=other.user_id,
        )
    assert refusal(api.delete(f"/v1/members/{alice.user_id}", headers=alice)) == (409, "last_owner")


def test_two_owners_who_go_at_once(api, admin, people):
    """200 departures and demotions, two of each organization's only owners at the same moment: one of them stays."""
    pairs = []
    for _ in range(100):
        first = people.create("owner")
        pairs.append((first, people.create("owner", first.tenant_id)))

    def go(number):
        first, second = pairs[number // 2]
        by, other = (first, second) if number % 2 else (second, first)
        client = Api(api.base)
        if number // 2 % 3 == 0:
            return client.delete(f"/v1/members/{by.user_id}", headers=by)
        if number // 2 % 3 == 1:
            return change(client, by, by.user_id, "viewer")
        return change(client, by, other.user_id, "member")

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(go, range(200)))

    assert {answer.status_code for answer in answers} <= {200, 204, 403, 409, 503}
    assert sum(answer.status_code in (200, 204) for answer in answers) >= 90
    assert any(refusal(answer) == (409, "last_owner") for answer in answers if answer.status_code == 409)
    for first, _ in pairs:
        owners = "SELECT count(*) FROM app.members WHERE tenant_id = :t AND role = 'owner'"
        assert admin.run(owners, t=first.tenant_id)[0][0] >= 1


def test_many_owners_who_go_at_once(api, admin, people, alice):
    """They demote each other and themselves, and leave, all in one organization: one is left, at least."""
    owners = [alice, *(people.create("owner", alice.tenant_id) for _ in range(39))]

    def go(number):
        by, about = owners[number % 40], owners[(number * 7 + number // 40) % 40]
        client = Api(api.base)
        if number % 3 == 0:
            return client.delete(f"/v1/members/{by.user_id}", headers=by)
        return change(client, by, about.user_id if number % 3 == 1 else by.user_id, "viewer")

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(go, range(200)))

    assert {answer.status_code for answer in answers} <= {200, 204, 401, 403, 404, 409, 503}
    left = admin.run("SELECT count(*) FROM app.members WHERE tenant_id = :t AND role = 'owner'", t=alice.tenant_id)
    assert left[0][0] >= 1
    assert sum(answer.status_code in (200, 204) for answer in answers) >= 30


def test_pages(api, people, alice):
    for _ in range(4):
        people.create("viewer", alice.tenant_id)
    everybody = api.get("/v1/members", headers=alice).json["items"]
    found, path = [], "/v1/members?limit=2"
    while path:
        page = api.get(path, headers=alice)
        found += page.json["items"]
        cursor = page.json["next_cursor"]
        path = f"/v1/members?limit=2&cursor={cursor}" if cursor else None
    assert found == everybody
    assert len(found) == 5

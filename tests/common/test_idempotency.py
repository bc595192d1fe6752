"""Idempotency-Key: a POST that is sent again is answered again, and done once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local.layout import Layout
from tests.conftest import PASSWORD, Api, database, wait_until
from tests.deletions.conftest import Backstage, Erasures


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def projects(admin: Any, person: Any) -> int:
    return int(admin.run("SELECT count(*) FROM app.projects WHERE tenant_id = :t", t=person.tenant_id)[0][0])


def kept(admin: Any, person: Any) -> int:
    return int(
        admin.run(
            "SELECT count(*) FROM app.idempotent_answers WHERE tenant_id = :t AND user_id = :u",
            t=person.tenant_id,
            u=person.user_id,
        )[0][0]
    )


def fields_of(schema: Any) -> set[str]:
    return set(schema._declared_fields)


def refused(answer: Any, status: int, code: str) -> bool:
    return (answer.status_code, answer.json["code"]) == (status, code)


def test_the_same_answer_and_one_change(api, admin, alice, key):
    first = api.post("/v1/projects", json={"name": "Atlas", "description": "x"}, headers={**alice, **key})
    again = api.post("/v1/projects", json={"description": "x", "name": "Atlas"}, headers={**alice, **key})

    assert (first.status_code, again.status_code) == (201, 201)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.text == first.text
    for name in ("Location", "ETag", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert again.headers["Cache-Control"] == "no-store"
    assert projects(admin, alice) == 1
    events = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :t AND action = 'project.created'"
    assert admin.run(events, t=alice.tenant_id) == [[1]]


def test_what_is_answered_again_is_on_disk(stack, api, alice, key):
    """The first may still wait for the disk when it is sent again: no crash must take back the second answer."""
    answers = [api.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, **key})]
    with database(stack["postgres"]["admin"]) as connection:
        connection.run("SET synchronous_commit = off")
        connection.run("SELECT pg_logical_emit_message(true, 'test', 'committed, and not on disk yet')")
        (committed,) = connection.run("SELECT pg_current_wal_insert_lsn()::text")[0]
        answers.append(api.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, **key}))
        on_disk = connection.run("SELECT pg_current_wal_flush_lsn() >= CAST(:lsn AS pg_lsn)", lsn=committed)

    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert on_disk == [[True]]


def test_another_body_is_refused(api, admin, alice, key):
    headers = {**alice, **key}
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=headers).status_code == 201
    assert refused(api.post("/v1/projects", json={"name": "Other"}, headers=headers), 422, "idempotency_key_reused")
    assert projects(admin, alice) == 1


def test_the_key_belongs_to_person_organization_and_path(api, people, alice, dan, mallory, key):
    body = {"name": "Atlas"}
    first = api.post("/v1/projects", json=body, headers={**alice, **key})
    assert api.post("/v1/projects", json=body, headers={**mallory, **key}).json["id"] != first.json["id"]
    assert refused(api.post("/v1/projects", json=body, headers={**dan, **key}), 409, "project_name_taken")
    other = people.organization()
    people.join(alice.user_id, other, "owner")
    there = people.log_in(alice, tenant_id=other)
    assert "Idempotent-Replayed" not in api.post("/v1/projects", json=body, headers={**there, **key}).headers
    task = api.post(f"/v1/projects/{first.json['id']}/tasks", json={"title": "t"}, headers={**alice, **key})
    assert (task.status_code, "Idempotent-Replayed" in task.headers) == (201, False)


def test_what_was_refused_may_be_tried_again(api, alice, key):
    headers = {**alice, **key}
    assert api.post("/v1/projects", json={"name": ""}, headers=headers).status_code == 422
    assert api.post("/v1/projects", data=b"{", headers=headers).status_code == 415
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=headers).status_code == 201


def test_permission_is_checked_before_the_key(api, admin, dan, key):
    headers = {**dan, **key}
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=headers).status_code == 201
    admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :u", u=dan.user_id)
    assert refused(api.post("/v1/projects", json={"name": "Atlas"}, headers=headers), 403, "permission_denied")
    admin.run("UPDATE identity.login_sessions SET revoked_at = now() WHERE account_id = :u", u=dan.user_id)
    assert refused(api.post("/v1/projects", json={"name": "Atlas"}, headers=headers), 401, "invalid_token")


@pytest.mark.parametrize("bad", ["", "a b", "a,b", "x" * 256, "é"])
def test_a_malformed_key(api, admin, alice, bad):
    headers = {**alice, "Idempotency-Key": bad.encode()}
    answer = api.post("/v1/projects", json={"name": "Atlas"}, headers=headers)
    assert refused(answer, 400, "malformed_request"), bad
    assert "Idempotency-Key" in answer.json["detail"]
    assert projects(admin, alice) == 0


def test_while_the_first_one_runs(stack, api, admin, alice, key):
    headers = {**alice, **key}

    def post() -> Any:
        client = Api(stack["api"])
        answer = client.post("/v1/projects", json={"name": "Atlas"}, headers=headers)
        client._session.close()
        return answer

    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'app.projects'::regclass AND NOT granted"
    with database(stack["postgres"]["admin"]) as blocker, ThreadPoolExecutor(1) as pool:
        blocker.run("BEGIN")
        blocker.run("LOCK TABLE app.projects IN SHARE MODE")
        first = pool.submit(post)
        wait_until(lambda: admin.run(waiting)[0][0] == 1, what="the first one to wait")
        second = post()
        assert refused(second, 409, "idempotency_in_progress")
        assert second.headers["Retry-After"] == "1"
        blocker.run("ROLLBACK")
        assert first.result().status_code == 201
    assert post().headers["Idempotent-Replayed"] == "true"
    assert projects(admin, alice) == 1


def test_two_hundred_at_once_make_one(stack, admin, alice, key):
    def post(number: int) -> tuple[int, str]:
        client = Api(stack["api"])
        answer = client.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, **key})
        client._session.close()
        return answer.status_code, answer.json.get("id", answer.json.get("code"))

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(post, range(200)))

    ids = {told for status, told in answers if status == 201}
    assert len(ids) == 1
    assert {told for status, told in answers if status != 201} <= {"idempotency_in_progress"}
    assert projects(admin, alice) == 1


def test_a_day_later_it_is_a_new_request(api, admin, alice, key):
    headers = {**alice, **key}
    api.post("/v1/projects", json={"name": "Atlas"}, headers=headers)
    age = "UPDATE app.idempotent_answers SET created_at = now() - interval '24 hours' WHERE user_id = :u"
    admin.run(age, u=alice.user_id)
    answer = api.post("/v1/projects", json={"name": "Borea"}, headers=headers)
    assert (answer.status_code, "Idempotent-Replayed" in answer.headers) == (201, False)
    assert api.post("/v1/projects", json={"name": "Borea"}, headers=headers).headers["Idempotent-Replayed"] == "true"


def test_retention_removes_what_is_over_a_day_old(stack, api, admin, alice, dan, key):
    for person in (alice, dan):
        api.post("/v1/projects", json={"name": person.name}, headers={**person, **key})
    age = "UPDATE app.idempotent_answers SET created_at = now() - interval '25 hours' WHERE user_id = :u"
    admin.run(age, u=alice.user_id)
    assert (kept(admin, alice), kept(admin, dan)) == (1, 1)
    Backstage(stack, api, admin).call("retention", "scheduler", "/internal/retention/run")
    assert (kept(admin, alice), kept(admin, dan)) == (0, 1)


def test_it_goes_with_the_membership(api, admin, dan, key):
    api.post("/v1/projects", json={"name": "Atlas"}, headers={**dan, **key})
    assert kept(admin, dan) == 1
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=dan.user_id)
    assert kept(admin, dan) == 0


def test_erasure_takes_hers_and_what_speaks_of_her(api, admin, alice, dan, key):
    api.post("/v1/projects", json={"name": "Dan's"}, headers={**dan, **key})
    told = {"name": "Atlas", "description": f"Ask {dan.email.upper()}"}
    project = api.post("/v1/projects", json=told, headers={**alice, **key}).headers["Location"]
    api.patch(project, json={"description": ""}, headers=alice)
    api.post("/v1/projects", json={"name": "Other"}, headers={**alice, "Idempotency-Key": "other"})
    assert (kept(admin, dan), kept(admin, alice)) == (1, 2)

    certificate = Erasures(api, admin).erase(dan)

    assert {"table": "app.idempotent_answers", "rows": 2, "action": "delete"} in certificate["tables"]
    assert (kept(admin, dan), kept(admin, alice)) == (0, 1)
    assert certificate["scan"]["hits"] == 0


def test_neither_key_nor_failure_is_kept(api, admin, alice):
    secret = f"key-of-{uuid.uuid4()}"
    api.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, "Idempotency-Key": secret})
    api.post("/v1/projects", json={"name": "Atlas"}, headers={**alice, "Idempotency-Key": secret + "2"})
    rows = admin.run("SELECT to_json(a)::text FROM app.idempotent_answers a WHERE user_id = :u", u=alice.user_id)
    assert len(rows) == 1
    assert secret not in rows[0][0]
    assert secret.encode().hex() not in rows[0][0]


def test_answers_with_tokens_are_never_kept(api, admin, alice, key):
    body = {"email": alice.email, "password": PASSWORD}
    answers = [api.post("/v1/auth/login", json=body, headers=key) for _ in range(2)]
    assert answers[0].json["access_token"] != answers[1].json["access_token"]
    people = {**alice, **key}
    answers = [api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=people) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert kept(admin, alice) == 0


def test_a_replay_takes_no_body_s_word_for_another_query(api, alice, key):
    headers = {**alice, **key}
    api.post("/v1/projects", json={"name": "Atlas"}, headers=headers)
    assert refused(api.post("/v1/projects?x=1", json={"name": "Atlas"}, headers=headers), 422, "invalid_request")


def test_every_authenticated_post_takes_the_key_unless_it_answers_secrets():
    from tests.structure.test_routes import ROUTES

    posts = {route.path: route for _, route in ROUTES if route.method == "POST" and not route.internal}
    assert posts["/v1/projects"].idempotent
    assert posts["/v1/exports"].idempotent
    assert [path for path, route in posts.items() if route.idempotent and (route.tokens or route.secret)] == []
    assert [path for path, route in posts.items() if route.idempotent and route.needs == "public"] == []
    for path, route in posts.items():
        told = {
            name for schema in (route.answers, route.also and route.also[1]) if schema for name in fields_of(schema)
        }
        assert not (route.idempotent and told & {"access_token", "refresh_token", "key", "secret", "recovery_codes"}), (
            path
        )


def test_two_functions_keep_their_keys_apart(stack, api, alice, key):
    layout = Layout.load(Path(stack["path"]).parent / "layout.json")
    assert layout.url("gateway") == stack["api"]
    first = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers={**alice, **key})
    again = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers={**alice, **key})
    assert (first.status_code, again.status_code) == (202, 202), "the second is no 409 export_in_progress"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_rehearsal_over_several_organizations_is_not_kept(api, admin, people, alice, key):
    while (other := people.organization()) < alice.tenant_id:
        pass  # the one that is looked into last is another than the caller's
    people.join(alice.user_id, other, "viewer")
    answers = [
        api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers={**alice, **key}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert admin.run("SELECT count(*) FROM app.idempotent_answers WHERE user_id = :u", u=alice.user_id) == [[0]]

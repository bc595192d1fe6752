"""PATCH and DELETE of projects and tasks: versions, If-Match, audit."""

import pytest

from tests.conftest import last_audit_event


@pytest.fixture
def project(api, alice):
    return api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json


def test_a_change_raises_the_version(api, admin, alice, project):
    answer = api.patch(f"/v1/projects/{project['id']}", json={"description": "Maps"}, headers=alice)

    assert answer.status_code == 200
    assert (answer.json["version"], answer.headers["ETag"]) == (2, '"2"')
    assert (answer.json["name"], answer.json["description"]) == ("Atlas", "Maps")
    assert answer.json["updated_at"] > project["updated_at"]
    event = last_audit_event(admin, alice)
    assert (event["action"], event["data"]) == ("project.updated", {"fields": ["description"]})


@pytest.mark.parametrize("tag", ['"7"', 'W/"1"', "1", '"one"', '"1", "2"'])
def test_a_stale_or_weak_tag_changes_nothing(api, alice, project, tag):
    headers = {**alice, "If-Match": tag}
    path = f"/v1/projects/{project['id']}"

    assert api.patch(path, json={"name": "Other"}, headers=headers).json["code"] == "precondition_failed"
    assert api.delete(path, headers=headers).status_code == 412
    assert api.get(path, headers=alice).json == project


def test_the_right_tag_passes(api, alice, project):
    path = f"/v1/projects/{project['id']}"
    assert api.patch(path, json={"name": "Other"}, headers={**alice, "If-Match": '"1"'}).status_code == 200
    assert api.delete(path, headers={**alice, "If-Match": "*"}).status_code == 204


def test_an_unknown_object_is_404_whatever_the_tag(api, alice):
    path = f"/v1/projects/{alice.user_id}"
    assert api.patch(path, json={"name": "Other"}, headers={**alice, "If-Match": '"1"'}).status_code == 404
    assert api.delete(path, headers={**alice, "If-Match": '"1"'}).status_code == 404
    assert api.get("/v1/projects/not-an-id", headers=alice).status_code == 404


def test_deleting_a_project_takes_its_tasks(api, admin, alice, project):
    task = api.post(f"/v1/projects/{project['id']}/tasks", json={"title": "Draw"}, headers=alice).json["id"]

    answer = api.delete(f"/v1/projects/{project['id']}", headers=alice)

    assert (answer.status_code, answer.text) == (204, "")
    assert api.get(f"/v1/tasks/{task}", headers=alice).status_code == 404
    assert last_audit_event(admin, alice)["action"] == "project.deleted"


def test_a_task_can_lose_its_assignee_and_its_date(api, alice, dan, project):
    body = {"title": "Draw", "assignee_id": dan.user_id, "due_at": "2026-12-24T18:00:00+02:00"}
    task = api.post(f"/v1/projects/{project['id']}/tasks", json=body, headers=alice).json
    assert (task["assignee_id"], task["due_at"]) == (dan.user_id, "2026-12-24T16:00:00.000000Z")

    kept = api.patch(f"/v1/tasks/{task['id']}", json={"status": "done"}, headers=dan).json
    assert (kept["status"], kept["assignee_id"], kept["due_at"]) == ("done", dan.user_id, task["due_at"])

    freed = api.patch(f"/v1/tasks/{task['id']}", json={"assignee_id": None, "due_at": None}, headers=dan).json
    assert (freed["assignee_id"], freed["due_at"], freed["version"]) == (None, None, 3)


def test_an_assignee_from_outside_is_refused(api, alice, mallory, project):
    path = f"/v1/projects/{project['id']}/tasks"
    answer = api.post(path, json={"title": "Draw", "assignee_id": mallory.user_id}, headers=alice)

    assert answer.status_code == 422
    assert list(answer.json["errors"]) == ["assignee_id"]


def test_a_viewer_reads_and_changes_nothing(api, alice, vera, project):
    path = f"/v1/projects/{project['id']}"
    assert api.get(path, headers=vera).json == project
    assert api.patch(path, json={"name": "Other"}, headers=vera).status_code == 403
    assert api.delete(path, headers=vera).status_code == 403


def test_a_developer_may_not_delete(api, dan, project):
    assert api.delete(f"/v1/projects/{project['id']}", headers=dan).status_code == 403

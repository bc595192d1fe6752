"""GET /v1/sessions: pages, filters, and states that time alone changes."""

import pytest

from tests.sessions.conftest import let_time_pass, new_room

HALF_AN_HOUR = 1800


@pytest.fixture
def rooms(api, admin, alice, project):
    """An active, an idle, a closed one, one whose time is over, and one of another project; the newest last."""
    found = {name: new_room(api, alice, project, name) for name in ("active", "idle", "closed", "over")}
    found["elsewhere"] = new_room(api, alice, title="elsewhere")
    let_time_pass(admin, found["idle"], HALF_AN_HOUR // 6 + 30)
    let_time_pass(admin, found["over"], HALF_AN_HOUR * 2)
    found["closed"].close()
    return found


def titles(api, person, query=""):
    answer = api.get(f"/v1/sessions{query}", headers=person)
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in answer.json["items"]]


def test_newest_first_by_state_and_by_project(api, alice, vera, mallory, project, rooms):
    assert titles(api, alice) == ["elsewhere", "over", "closed", "idle", "active"]
    assert titles(api, vera) == titles(api, alice)
    assert titles(api, mallory) == []
    assert titles(api, alice, f"?project_id={project}") == ["over", "closed", "idle", "active"]
    assert titles(api, alice, "?status=active") == ["elsewhere", "active"]
    assert titles(api, alice, f"?status=active&project_id={project}") == ["active"]
    assert titles(api, alice, "?status=idle") == ["idle"]
    assert titles(api, alice, "?status=closed") == ["over", "closed"]


def test_the_state_of_one_is_that_of_the_list(rooms):
    for state, name in (("active", "active"), ("idle", "idle"), ("closed", "closed"), ("closed", "over")):
        assert rooms[name].get().json["status"] == state
    assert rooms["over"].get().json["closed_at"] < rooms["closed"].get().json["closed_at"]


@pytest.mark.parametrize("query", ["?", "?status=closed&", "?status=active&"])
def test_pages(api, alice, rooms, query):
    found, cursor = [], ""
    while cursor is not None:
        page = api.get(f"/v1/sessions{query}limit=1{cursor and '&cursor=' + cursor}", headers=alice)
        found += [item["title"] for item in page.json["items"]]
        cursor = page.json["next_cursor"]
    assert found == titles(api, alice, query.rstrip("&"))


def test_a_cursor_belongs_to_its_filter_and_organization(api, alice, mallory, rooms):
    cursor = api.get("/v1/sessions?limit=1", headers=alice).json["next_cursor"]
    for path, person in ((f"?status=closed&cursor={cursor}", alice), (f"?cursor={cursor}", mallory)):
        assert api.get(f"/v1/sessions{path}", headers=person).json["code"] == "invalid_cursor"


@pytest.mark.parametrize("query", ["status=open", "project_id=Atlas", "limit=0", "colour=red"])
def test_wrong_queries_are_refused(api, alice, query):
    answer = api.get(f"/v1/sessions?{query}", headers=alice)
    assert (answer.status_code, list(answer.json["errors"])) == (422, [query.split("=")[0]])

"""GET /v1/projects and its tasks: pages, filters, cursors."""

import pytest


@pytest.fixture
def seven(api, alice):
    names = [f"Project {number}" for number in range(7)]
    for name in names:
        assert api.post("/v1/projects", json={"name": name}, headers=alice).status_code == 201
    return list(reversed(names))


def pages(api, person, path):
    """Every page of a list, following next_cursor."""
    found, cursor = [], None
    while True:
        page = api.get(path + (f"&cursor={cursor}" if cursor else ""), headers=person)
        assert page.status_code == 200
        found.append(page)
        cursor = page.json["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize(("limit", "count"), [(1, 7), (3, 3), (6, 2), (7, 1), (100, 1)])
def test_newest_first_in_pages(api, alice, seven, limit, count):
    found = pages(api, alice, f"/v1/projects?limit={limit}")

    assert len(found) == count
    assert [item["name"] for page in found for item in page.json["items"]] == seven


def test_link_header_leads_to_the_next_page(api, alice, seven):
    first = api.get("/v1/projects?limit=4", headers=alice)
    target = first.headers["Link"].split(";")[0].strip("<>")
    assert first.headers["Link"].endswith('rel="next"')

    second = api.get(target, headers=alice)

    assert [item["name"] for item in second.json["items"]] == seven[4:]
    assert "Link" not in second.headers


def test_filters(api, alice, seven):
    project = api.get("/v1/projects?limit=1", headers=alice).json["items"][0]
    api.patch(f"/v1/projects/{project['id']}", json={"status": "archived"}, headers=alice)

    archived = api.get("/v1/projects?status=archived", headers=alice).json["items"]
    assert [item["name"] for item in archived] == [seven[0]]
    assert len(api.get("/v1/projects?q=PROJECT", headers=alice).json["items"]) == 7
    assert [item["name"] for item in api.get("/v1/projects?q=t+3", headers=alice).json["items"]] == ["Project 3"]
    assert api.get("/v1/projects?q=%25", headers=alice).json["items"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=deleted", "colour=red", "q="])
def test_wrong_queries_are_refused(api, alice, query):
    answer = api.get(f"/v1/projects?{query}", headers=alice)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert list(answer.json["errors"]) == [query.split("=")[0]]


def test_a_cursor_belongs_to_its_organization_path_and_filter(api, alice, mallory, seven):
    cursor = api.get("/v1/projects?limit=2", headers=alice).json["next_cursor"]

    def code(path, person):
        answer = api.get(path, headers=person)
        return (answer.status_code, answer.json.get("code"))

    assert code(f"/v1/projects?limit=3&cursor={cursor}", alice) == (200, None)
    for wrong in (
        f"/v1/projects?status=active&cursor={cursor}",
        f"/v1/projects?cursor={cursor[:-1]}A",
        f"/v1/projects?cursor={cursor}AA",
        "/v1/projects?cursor=AAAA",
        "/v1/projects?cursor=%C3%A4",
        f"/v1/members?cursor={cursor}",
    ):
        assert code(wrong, alice) == (400, "invalid_cursor"), wrong
    assert code(f"/v1/projects?cursor={cursor}", mallory) == (400, "invalid_cursor")


def test_tasks_in_pages_and_by_filter(api, alice, dan):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    for number in range(5):
        body = {"title": f"Task {number}", "assignee_id": dan.user_id if number % 2 else None}
        assert api.post(f"/v1/projects/{project}/tasks", json=body, headers=alice).status_code == 201

    found = pages(api, alice, f"/v1/projects/{project}/tasks?limit=2")
    assert [item["title"] for page in found for item in page.json["items"]] == [f"Task {n}" for n in (4, 3, 2, 1, 0)]
    dans = api.get(f"/v1/projects/{project}/tasks?assignee_id={dan.user_id}", headers=alice).json["items"]
    assert [item["title"] for item in dans] == ["Task 3", "Task 1"]
    assert api.get(f"/v1/projects/{alice.user_id}/tasks", headers=alice).status_code == 404


def test_members_in_pages(api, alice, dan, vera):
    found = pages(api, alice, "/v1/members?limit=1")
    items = [item for page in found for item in page.json["items"]]
    assert [(item["user_id"], item["role"]) for item in items] == [
        (vera.user_id, "viewer"),
        (dan.user_id, "developer"),
        (alice.user_id, "owner"),
    ]
    assert items[1]["email"] == dan.email
    assert items[1]["display_name"] == dan.name


ODD = [
    'quote " \\ /',
    "line\nend\r\ttab",
    "\u2028 \u2029\x85\x0b\x0c",
    "\x01\x1f\x7f",
    "😀\uffff",
    '","version":9,"x":"',
]


def test_whatever_a_text_holds_it_comes_back_as_it_was(api, alice):
    project = api.post("/v1/projects", json={"name": "Odd"}, headers=alice).json["id"]
    for text in ODD:
        made = api.post("/v1/projects", json={"name": text, "description": text}, headers=alice)
        assert (made.status_code, made.json["name"], made.json["version"]) == (201, text, 1)
        task = {"title": text, "description": text}
        assert api.post(f"/v1/projects/{project}/tasks", json=task, headers=alice).status_code == 201
    for path, name in (("/v1/projects?limit=4", "name"), (f"/v1/projects/{project}/tasks?limit=4", "title")):
        items = [item for page in pages(api, alice, path) for item in page.json["items"]]
        assert [(item[name], item["description"]) for item in items[: len(ODD)]] == [(each, each) for each in ODD[::-1]]

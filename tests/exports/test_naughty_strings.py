"""Texts come back unchanged, whatever Unicode they are made of."""

import json
from pathlib import Path

import pytest

STRINGS = Path(__file__).parents[2].parent / "shared" / "data" / "blns.json"
HARD = [
    *("\\", "\\\\", "\\.", "\\N", "\\n", "\n", "\r\n", "\t", "\x01\x02", "\x07\x1b", "\x7f", "\x85", "\u2028\u2029"),
    *('"', "'", '","', "\ufeff", "\uffff", "\U0010ffff", "é", "e\u0301", "مرحبا", "a\u202eb", "{}", "[]", "%s", " "),
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
]


def naughty() -> list[str]:
    if not STRINGS.exists():
        pytest.skip(f"{STRINGS.name} is not beside the checkout")
    found: list[str] = json.loads(STRINGS.read_text())
    return found


def check(api, admin, alice, exports, strings):
    texts = [text for text in strings if text and "\x00" not in text]
    for number, text in enumerate(texts):
        admin.run(
            "INSERT INTO app.projects (tenant_id, name, description, created_by)"
            " VALUES (:tenant, :name, :description, :person)",
            tenant=alice.tenant_id,
            name=f"{number} {text}"[:255],
            description=text,
            person=alice.user_id,
        )
    project = api.post("/v1/projects", json={"name": "for tasks"}, headers=alice).json["id"]
    for text in texts[:20]:
        sent = api.post(f"/v1/projects/{project}/tasks", json={"title": text[:255]}, headers=alice)
        assert sent.status_code == 201, sent.text

    package = exports.package(alice)

    projects = {row["name"]: row["description"] for row in package.rows("projects")}
    for number, text in enumerate(texts):
        assert projects[f"{number} {text}"[:255]] == text
    assert sorted(row["title"] for row in package.rows("tasks")) == sorted(text[:255] for text in texts[:20])
    assert len(projects) == len(texts) + 1


def test_the_list_of_naughty_strings(api, admin, alice, exports):
    check(api, admin, alice, exports, naughty())


def test_what_copy_and_json_escape(api, admin, alice, exports):
    check(api, admin, alice, exports, HARD)

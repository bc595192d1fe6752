"""CSV: the same data as in JSON, readable by RFC 4180, and nothing that a spreadsheet takes for a formula."""

import csv
import io
import json
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.exports import forms
from tests.exports import reading
from tests.exports.test_naughty_strings import HARD, naughty

TRIGGERS = "=+-@\uff1d\uff0b\uff0d\uff20"
AT_START = re.compile(f"[{re.escape(TRIGGERS)}\t\r\n]")
INSIDE = re.compile(f"[;\t\r\n][{re.escape(TRIGGERS)}]")
FORMULAS = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "''-x", "'quoted'", "-5", "1-5", "a=b", "=", "'"),
    *(
        "a;=1+1",
        "a\t=1",
        "a\r\n=1",
        'x",=1',
        "＝1+1",
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("http://x.example","y")',
        "\t\t=1",
    ),
]
CHANGES = {"exports", "outbox", "audit_events"}  # they hold the request itself


def make(admin, alice, texts):
    for number, text in enumerate(texts):
        admin.run(
            "INSERT INTO app.projects (tenant_id, name, description, created_by)"
            " VALUES (:tenant, :name, :description, :person)",
            tenant=alice.tenant_id,
            name=(f"{text} {number}")[:255],
            description=text,
            person=alice.user_id,
        )


def test_it_holds_what_json_holds(admin, alice, exports):
    texts = [text for text in (*FORMULAS, *HARD, *naughty(), "", " ") if "\x00" not in text]
    make(admin, alice, texts)

    as_json, as_csv = exports.package(alice), exports.package(alice, format="csv")

    assert as_csv.manifest["counts"].keys() == as_json.manifest["counts"].keys()
    for relation in as_json.manifest["counts"].keys() - CHANGES:
        assert reading.rows(as_csv, relation) == as_json.rows(relation), relation
    assert sorted(row["description"] for row in reading.rows(as_csv, "projects")) == sorted(texts)
    (event, *_) = [row for row in reading.rows(as_csv, "audit_events") if row["action"] == "export.requested"]
    assert event["data"]["format"] in ("json", "csv")


def test_no_cell_is_a_formula(admin, alice, exports):
    make(admin, alice, FORMULAS)

    package = exports.package(alice, format="csv")

    cells = [cell for row in csv.reader(io.StringIO(package.text("data/projects.csv"), newline="")) for cell in row]
    assert [cell for cell in cells if AT_START.match(cell) or INSIDE.search(cell)] == []
    assert "'=1+1" in cells
    assert package.manifest["csv"]["undo"]["replace"]


def test_the_files_say_what_they_are(api, alice, exports):
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)

    package = exports.package(alice, format="csv")

    text = package.text("data/projects.csv")
    header, row, rest = text.split("\r\n")
    assert (header.split(",")[:3], rest) == (["tenant_id", "id", "name"], "")
    assert row.startswith(f"{alice.tenant_id},")
    assert package.text("data/tasks.csv").count("\r\n") == 1
    schema = json.loads(package.text("schema/projects.json"))
    assert (schema["@context"], schema["url"]) == ("http://www.w3.org/ns/csvw", "../data/projects.csv")
    assert schema["tableSchema"]["primaryKey"] == ["id"]
    assert 'href="data/projects.csv"' in package.text("index.html")
    assert "Atlas" in package.text("index.html")
    assert not [name for name in package.archive.namelist() if name.startswith("data/") and name.endswith(".json")]


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
NASTY = st.text(f"{TRIGGERS};,\t\r\n'\"a1 ", max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(TEXT, NASTY), min_size=1, max_size=50))
def test_a_guard_is_undone_and_leaves_no_formula(admin, texts):
    found = admin.run(
        "SELECT json_agg(platform.guarded(t) ORDER BY n) FROM json_array_elements_text(CAST(:texts AS json))"
        " WITH ORDINALITY AS x (t, n)",
        texts=json.dumps(texts),
    )[0][0]

    manifest = {"csv": forms.CSV}
    assert [reading.undone(cell, manifest) for cell in found] == texts
    assert [cell for cell in found if AT_START.match(cell) or INSIDE.search(cell)] == []
    assert all(cell == text for cell, text in zip(found, texts, strict=True) if text.isalnum())

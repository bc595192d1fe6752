"""What is in a package, and what is not."""

import hashlib
import json
import shutil
import subprocess
import zipfile
from datetime import datetime
from html.parser import HTMLParser

import pytest

from common.register import register
from tests.conftest import PASSWORD


def test_it_holds_the_persons_data(api, alice, dan, exports):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json
    tasks = f"/v1/projects/{project['id']}/tasks"
    mine = api.post(tasks, json={"title": "written by me"}, headers=alice).json
    given = api.post(tasks, json={"title": "given to me", "assignee_id": alice.user_id}, headers=dan).json
    api.post(tasks, json={"title": "none of mine"}, headers=dan)
    api.post("/v1/projects", json={"name": "of Dan"}, headers=dan)

    package = exports.package(alice)

    (account,) = package.rows("accounts")
    assert (account["id"], account["email"], account["display_name"]) == (alice.user_id, alice.email, alice.name)
    assert alice.session_id in [row["id"] for row in package.rows("login_sessions")]
    assert [(row["tenant_id"], row["role"]) for row in package.rows("members")] == [(alice.tenant_id, "owner")]
    assert [row["name"] for row in package.rows("projects")] == ["Atlas"]
    assert {row["id"] for row in package.rows("tasks")} == {mine["id"], given["id"]}
    events = package.rows("audit_events")
    assert [event["action"] for event in events] == ["project.created", "task.created", "export.requested"]
    assert {event["actor_id"] for event in events} == {alice.user_id}
    assert events[0]["personal"]["ip"] == "127.0.0.1"


def test_it_holds_what_her_api_keys_did(api, alice, people, exports):
    """Their events carry where her programs run; the key itself may be gone. Not what a colleague's key did."""
    keys = []
    for maker in (alice, people.create("owner", alice.tenant_id)):
        body = {"name": "robot", "permissions": ["project.create"]}
        keys.append(api.post("/v1/api-keys", json=body, headers=maker).json)
        headers = {"Authorization": f"Bearer {keys[-1]['key']}"}
        assert api.post("/v1/projects", json={"name": keys[-1]["id"]}, headers=headers).status_code == 201
    assert api.delete(f"/v1/api-keys/{keys[0]['id']}", headers=alice).status_code == 204

    events = exports.package(alice).rows("audit_events")

    by_keys = [(event["actor_id"], event["action"]) for event in events if event["actor_type"] == "api_key"]
    assert by_keys == [(keys[0]["id"], "project.created")]
    assert all(event["personal"]["ip"] for event in events if event["actor_type"] == "api_key")


def test_it_holds_failed_log_ins_of_the_person_alone(admin, alice, dan, exports):
    for seq, person, actor in ((101, alice, None), (102, dan, None), (103, alice, dan.user_id)):
        admin.run(
            "INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type,"
            " resource_id, outcome, request_id, personal_hash, prev_hash, hash) VALUES"
            " (:tenant, :seq, now(), 'system', :actor, 'login.failed', 'login', :person, 'failure', 'r', '', '', '')",
            tenant=alice.tenant_id,
            seq=seq,
            person=person.user_id,
            actor=actor,
        )

    assert [event["seq"] for event in exports.package(alice).rows("audit_events") if event["seq"] > 100] == [101]


def test_it_holds_every_membership(admin, api, people, alice, exports):
    other = people.organization()
    people.join(alice.user_id, other, "developer")
    there = people.log_in(alice, tenant_id=other)
    api.post("/v1/projects", json={"name": "Here"}, headers=alice)
    api.post("/v1/projects", json={"name": "There"}, headers=there)

    package = exports.package(alice)

    assert {row["tenant_id"] for row in package.rows("members")} == {alice.tenant_id, other}
    assert {row["name"]: row["tenant_id"] for row in package.rows("projects")} == {
        "Here": alice.tenant_id,
        "There": other,
    }
    assert {entry["id"] for entry in package.manifest["organizations"]} == {alice.tenant_id, other}


def test_others_are_ids_and_secrets_stay(admin, api, alice, dan, exports):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=dan).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "for Alice", "assignee_id": alice.user_id}, headers=dan)
    hashed = admin.run("SELECT password_hash FROM identity.accounts WHERE id = :id", id=alice.user_id)[0][0]

    package = exports.package(alice)
    everything = "".join(package.text(name) for name in package.archive.namelist())

    assert dan.user_id in everything
    assert dan.email not in everything
    assert dan.name not in everything
    assert hashed not in everything
    assert PASSWORD not in everything


def test_the_manifest_is_right(alice, exports):
    export_id = exports.request(alice)
    state = exports.ended(alice, export_id)
    package = exports.download(alice, export_id)

    assert (package.sha256, len(package.content)) == (state["sha256"], state["size_bytes"])
    assert package.manifest["request"]["id"] == export_id
    listed = {entry["path"]: entry for entry in package.manifest["files"]}
    assert {*listed, "manifest.json"} == set(package.archive.namelist())
    for path, entry in listed.items():
        content = package.archive.read(path)
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    for table, count in package.manifest["counts"].items():
        assert len(package.rows(table)) == count == listed[f"data/{table}.json"]["rows"]


ROWS = (
    "INSERT INTO identity.devices (account_id, token_hash, expires_at)"
    " VALUES (:person, uuid_send(gen_random_uuid()), now() + interval '1 day')",
    "INSERT INTO identity.email_changes"
    " (id, account_id, login_session_id, new_email, browser_hash, token_hash, expires_at)"
    " VALUES (gen_random_uuid(), :person, :session, 'new@example.org', 'x', uuid_send(gen_random_uuid()), now())",
    "INSERT INTO app.invitations (tenant_id, email, role, expires_at)"
    " SELECT CAST(:tenant AS uuid), email, 'viewer', now() FROM identity.accounts WHERE id = :person",
    "WITH team AS (INSERT INTO app.teams (tenant_id, name) VALUES (:tenant, 'Blue') RETURNING *)"
    " INSERT INTO app.team_members (tenant_id, team_id, user_id)"
    " SELECT tenant_id, id, CAST(:person AS uuid) FROM team",
    "INSERT INTO app.api_keys (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at)"
    " VALUES (:tenant, 'robot', 'x', gen_random_uuid(), '{project.view}', :person, now() + interval '1 day')",
    "WITH job AS (INSERT INTO platform.jobs (id, kind, status) VALUES (gen_random_uuid(), 'export', 'done')"
    " RETURNING id)"
    " INSERT INTO platform.privacy_notices (id, job_id, kind, due_at, account_id)"
    " SELECT gen_random_uuid(), id, 'week', now(), CAST(:person AS uuid) FROM job",
    "INSERT INTO platform.incident_mails (id, tenant_id, incident_id, kind, due_at, account_id)"
    " VALUES (gen_random_uuid(), :tenant, gen_random_uuid(), 'due', now(), :person)",
    "SELECT platform.put_consent_purpose('package', true, 'May we?')",
    "SELECT platform.record_consent(:person, NULL, 'package', 1, true, 'settings', 'gpc', '192.0.2.1', 'Browser')",
    "INSERT INTO app.consent_texts (tenant_id, purpose, version, marketing, text, text_hash, created_by)"
    " VALUES (:tenant, 'ours', 1, false, 'Yes?', encode(sha256('Yes?'), 'hex'), :person)",
    "SELECT platform.record_consent(:person, :tenant, 'ours', 1, true, 'settings', NULL, NULL, NULL)",
)


def test_each_row_of_each_table_has_the_form_that_its_schema_says(admin, api, alice, exports):
    for sql in ROWS:
        known = {"person": alice.user_id, "tenant": alice.tenant_id, "session": alice.session_id}
        admin.run(sql, **{name: value for name, value in known.items() if f":{name}" in sql})
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "a task"}, headers=alice)
    session = api.post("/v1/sessions", json={"project_id": project, "title": "a session"}, headers=alice).json["id"]
    said = {"events": [{"type": "said", "data": {"text": "Hello"}}]}
    assert api.post(f"/v1/sessions/{session}/events", json=said, headers=alice).status_code == 201
    admin.run(
        "INSERT INTO identity.registrations (id, email, display_name, organization_name, password_hash, browser_hash,"
        " token_hash, expires_at)"
        " VALUES (gen_random_uuid(), :email, 'A', 'B', 'x', 'y', uuid_send(gen_random_uuid()), now())",
        email=alice.email,
    )
    admin.run(
        "WITH job AS (INSERT INTO platform.jobs (id, kind, status) VALUES (gen_random_uuid(), 'deletion', 'cancelled')"
        " RETURNING id)"
        " INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, finished_at, receipt_hash)"
        " SELECT id, CAST(:person AS uuid), 'me', now(), now(), now(), 'x' FROM job",
        person=alice.user_id,
    )
    admin.run(
        "INSERT INTO identity.federated_identities (account_id, issuer, subject)"
        " VALUES (CAST(:person AS uuid), 'https://issuer.example', 'subject')",
        person=alice.user_id,
    )
    number = {"type": "sms", "phone": "+4915112345678"}
    assert api.post("/v1/auth/mfa/factors", json=number, headers=alice).status_code == 201
    package = exports.package(alice)

    assert set(package.manifest["counts"]) == {t.relation for t in register().tables.values() if t.exported}
    assert [table for table, count in package.manifest["counts"].items() if count == 0] == []
    for table in package.manifest["counts"]:
        schema = json.loads(package.text(f"schema/{table}.json"))["items"]
        for row in package.rows(table):
            assert list(row) == schema["required"] == list(schema["properties"])
            for name, value in row.items():
                form = schema["properties"][name].get("type")
                if schema["properties"][name].get("format") == "date-time" and value:
                    assert value.endswith("Z")
                    datetime.fromisoformat(value)
                if isinstance(value, str) and form:
                    assert "string" in form
                if isinstance(value, int) and form:
                    assert ("boolean" if isinstance(value, bool) else "integer") in form


def test_it_tells_what_the_law_wants_told(alice, exports):
    told = json.loads(exports.package(alice).text("processing.json"))

    activities = {entry["table"]: entry for entry in told["processing"]}
    assert {"accounts", "login_sessions", "members", "projects", "tasks", "audit_events"} <= set(activities)
    for entry in activities.values():
        assert entry["purpose"]
        assert entry["legal_basis"]
        assert entry["recipients"]
        assert entry["storage_period"]
        assert entry["source"] in ("provided", "observed", "derived")
    assert "password_hash" in activities["accounts"]["not_in_this_package"]
    assert any("Art. 17" in right for right in told["rights"])
    assert any("supervisory authority" in right for right in told["rights"])


def test_the_page_is_inert(api, alice, exports):
    api.post("/v1/projects", json={"name": '<script>alert("x")</script>', "description": "</td><b>"}, headers=alice)

    page = exports.package(alice).text("index.html")

    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page
    assert alice.user_id in page


def test_many_rows_come_in_ranges_and_none_is_lost(admin, api, alice, exports):
    project = api.post("/v1/projects", json={"name": "Large"}, headers=alice).json["id"]
    rows = 120_000
    admin.run(
        "INSERT INTO app.tasks (tenant_id, project_id, title, created_by)"
        " SELECT CAST(:tenant AS uuid), CAST(:project AS uuid), 'task ' || n, CAST(:person AS uuid)"
        " FROM generate_series(1, CAST(:rows AS integer)) n",
        tenant=alice.tenant_id,
        project=project,
        person=alice.user_id,
        rows=rows,
    )
    export_id = exports.request(alice)
    state = exports.ended(alice, export_id, 90)
    package = exports.download(alice, export_id)

    tables = [table for table in register().tables.values() if table.exported]
    assert state["progress"]["total"] == len(tables) + 2  # one more range of tasks, the package
    assert {row["title"] for row in package.rows("tasks")} == {f"task {n}" for n in range(1, rows + 1)}
    assert len(package.rows("tasks")) == rows


def test_the_manifest_tells_where_data_come_from_and_what_is_portable(alice, exports):
    files = {file["path"]: file for file in exports.package(alice).manifest["files"]}

    told = {
        path: (files[f"data/{path}.json"]["origin"], files[f"data/{path}.json"]["portable"])
        for path in ("accounts", "login_sessions", "tasks", "outbox")
    }
    assert told["accounts"] == ("provided", True)
    assert told["login_sessions"][0] == "observed"
    assert told["tasks"] == ("provided", None)  # as the organization's basis is
    assert told["outbox"] == ("derived", False)


class Page(HTMLParser):
    """What stands open, what was linked to, and the ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []
        if tag not in ("meta",):
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")
            assert "dir" in found or "number" in found.values() or len(found) == 0

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open:
            self.cells[-1] += data


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("scope", ["me", "organization"])
def test_the_page_is_for_people(api, alice, exports, form, scope):
    """Well nested, every link leads somewhere, every text is shown as it is, whichever way it runs."""
    texts = ["مرحبا بالعالم", "a\u202eb", "<b>&amp;", "two\nlines, \"quoted\"; and 'not'", "=1+1", "👩‍👩‍👧"]
    for text in texts:
        api.post("/v1/projects", json={"name": text, "description": text}, headers=alice)

    package = exports.package(alice, scope=scope, format=form)

    page = Page(package.text("index.html"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link[1:] in page.ids if link.startswith("#") else link in package.archive.namelist(), link
    assert "script" not in page.tags
    assert set(texts) <= set(page.cells)
    assert page.tags.count("h1") == page.tags.count("main") == 1


def test_the_archive_is_one_for_every_program(tmp_path, api, alice, exports):
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    path = tmp_path / "export.zip"
    path.write_bytes(exports.package(alice).content)

    tools = {"unzip": ["-tq"], "7z": ["t"], "bsdtar": ["-tf"]}
    for tool, options in tools.items():
        if shutil.which(tool):
            done = subprocess.run([tool, *options, str(path)], check=False, capture_output=True, text=True)
            assert done.returncode == 0, (tool, done.stdout, done.stderr)
    assert zipfile.ZipFile(path).testzip() is None

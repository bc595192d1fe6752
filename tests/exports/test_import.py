"""make import-export: an organization moves with its data, and nothing moves in that does not fit."""

import hashlib
import json
import re
import subprocess
import sys
import uuid
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pg8000.native
import pytest

from tests.conftest import CHECKOUT, last_audit_event, wait_until
from tests.exports.conftest import Package

ASK = {"scope": "organization", "format": "json"}
RECORDS = {  # of the platform that made them: they are not imported
    *("audit_events", "invoices", "incidents", "incident_notices", "incident_subjects", "member_consents"),
}
TASKS = 3000
TEXTS = [
    "",
    " ",
    "é",
    "e\u0301",
    "\u202eb",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    '"\\',
    "\n\r\t",
    "=1+1",
    "null",
]
EVENTS = [json.dumps(TEXTS, ensure_ascii=False, separators=(",", ":")), '{"b":1e300,"a":[1.50,1]}', "null", '"x"']


@pytest.fixture
def furnished(api, admin, people, alice, dan, vera):
    """An organization with something of everything, thousands of tasks among it, and nothing in some tables."""
    project = api.post("/v1/projects", json={"name": "Atlas", "description": "".join(TEXTS)}, headers=alice).json["id"]
    admin.run(
        """
        INSERT INTO app.tasks (tenant_id, project_id, title, description, assignee_id, due_at, created_by)
        SELECT :t, :p, 'Task ' || n, CAST(:texts AS json) ->> n % 10,
               CASE WHEN n % 3 = 0 THEN CAST(:u AS uuid) END,
               CASE WHEN n % 2 = 0 THEN timestamptz '2030-01-01' + n * interval '1.000001 s' END, :u
        FROM generate_series(1, :count) n
        """,
        t=alice.tenant_id,
        p=project,
        u=dan.user_id,
        texts=json.dumps(TEXTS),
        count=TASKS,
    )
    admin.run(
        "INSERT INTO app.sessions (tenant_id, project_id, title, created_by, closes_at, last_seq, closed_at)"
        " VALUES (:t, :p, :texts, :u, now(), 4, now())",
        t=alice.tenant_id,
        p=project,
        u=dan.user_id,
        texts="".join(TEXTS),
    )
    admin.run(
        """
        INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by, created_at)
        SELECT s.tenant_id, s.id, n, 'said', CAST(CAST(:data AS json) ->> (n - 1) AS json), s.created_by,
               now() - (n - 1) * interval '30 days' + interval '1 second'
        FROM app.sessions s, generate_series(1, 4) n WHERE s.tenant_id = :t
        """,
        t=alice.tenant_id,
        data=json.dumps(EVENTS),
    )
    api.post("/v1/roles", json={"name": "Rôle", "permissions": ["project.view", "task.view"]}, headers=alice)
    assert api.patch(f"/v1/members/{vera.user_id}", json={"role": "Rôle"}, headers=alice).status_code == 200
    team = api.post("/v1/teams", json={"name": "Mäkers"}, headers=alice).json["id"]
    api.put(f"/v1/teams/{team}/members/{dan.user_id}", headers=alice)
    for email in ("a@example.org", "b@example.org"):
        api.post("/v1/invitations", json={"email": email, "role": "Rôle"}, headers=alice)
    api.post("/v1/api-keys", json={"name": "robot", "permissions": ["project.view"]}, headers=alice)
    asked = {"purpose": "moving", "text": "".join(TEXTS), "marketing": False}
    assert api.post("/v1/consents/purposes", json=asked, headers=alice).status_code == 201
    assert api.put("/v1/consents/moving", json={"granted": True, "version": 1}, headers=alice).status_code == 200
    assert api.patch("/v1/organization", json={"name": "Mövers"}, headers=alice).status_code == 200
    admin.run(
        "UPDATE app.organizations SET settings = CAST(:settings AS jsonb) WHERE tenant_id = :t",
        settings='{"theme": {"dark": true, "size": 1.50}, "list": [1, null, "x"], "large": 12345678901234567890}',
        t=alice.tenant_id,
    )


@pytest.fixture
def command(stack):
    """Run the command, as make does."""
    root = Path(stack["path"]).parent

    def run(file, *options):
        done = [sys.executable, "-m", "local.import_export", str(file), "--root", str(root), *options]
        return subprocess.run(done, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120)

    return run


@pytest.fixture
def saved(tmp_path, alice, exports):
    """The organization's package as a file, once it is furnished."""

    def save():
        file = tmp_path / "package.zip"
        package = exports.package(alice, **ASK)
        file.write_bytes(package.content)
        return file, package

    return save


def moved(package: Package):
    """The data, without the organization's id and without the platform's records."""
    found = {}
    for name in package.archive.namelist():
        relation = name[5:-5]
        if name.startswith("data/") and relation not in RECORDS:
            found[relation] = [{**row, "tenant_id": None} for row in package.rows(relation)]
    return found


def test_it_works(api, admin, people, alice, furnished, saved, command, exports):
    file, first = saved()

    done = command(file)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] == {name: count for name, count in first.manifest["counts"].items() if name not in RECORDS}
    assert told["rows"]["tasks"] == TASKS
    there = people.log_in(alice, tenant_id=told["organization_id"])
    assert api.get("/v1/organization", headers=there).json["name"] == "Mövers"
    event = last_audit_event(admin, there)
    assert (event["action"], event["data"]) == ("organization.imported", {"sha256": first.sha256})
    second = exports.package(there, **ASK)
    assert moved(second) == moved(first)
    stored = "SELECT CAST(data AS text) FROM app.session_events WHERE tenant_id = :t ORDER BY seq"
    assert [text for (text,) in admin.run(stored, t=told["organization_id"])] == EVENTS
    assert second.manifest["organizations"][0]["id"] != first.manifest["organizations"][0]["id"]
    assert api.get("/v1/audit-events/verify", headers=there).json["valid"]


def test_events_whose_month_is_over_stay_out(admin, alice, saved, command):
    """The package is old: what retention would have removed by now does not come back."""
    project = "INSERT INTO app.projects (tenant_id, name, created_by) VALUES (:t, 'Atlas', :u) RETURNING id"
    ids = {"t": alice.tenant_id, "u": alice.user_id}
    session = admin.run(
        "INSERT INTO app.sessions (tenant_id, project_id, title, created_by, closes_at)"
        " VALUES (:t, :p, 'Climb', :u, now()) RETURNING id",
        p=admin.run(project, **ids)[0][0],
        **ids,
    )[0][0]
    event = (
        "INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by, created_at)"
        " VALUES (:t, :s, :n, 'said', '1', :u,"
        " date_trunc('month', now() - interval '90 days', 'UTC') + CAST(:o AS interval))"
    )
    with month_before(admin):
        admin.run(event, s=session, n=1, o="-1 microsecond", **ids)
        admin.run(event, s=session, n=2, o="0", **ids)
        file, package = saved()
    assert len(package.rows("session_events")) == 2

    told = json.loads(command(file).stdout)

    assert (told["rows"]["sessions"], told["rows"]["session_events"]) == (1, 1)


@contextmanager
def month_before(admin):
    """A partition of the last month that is over, for a moment."""
    first, end = admin.run(
        "SELECT e - interval '1 month', e"
        " FROM (SELECT date_trunc('month', now() - interval '90 days', 'UTC')) AS over (e)"
    )[0]
    admin.run(
        "CREATE TABLE app.session_events_over PARTITION OF app.session_events"
        f" FOR VALUES FROM ('{first.isoformat()}') TO ('{end.isoformat()}')"
    )
    try:
        yield
    finally:
        admin.run("DROP TABLE app.session_events_over")


def test_a_key_comes_without_its_secret(api, admin, alice, furnished, saved, command):
    organization = json.loads(command(saved()[0]).stdout)["organization_id"]

    hashes = "SELECT key_hash FROM app.api_keys WHERE tenant_id = :t"
    (old,), (new,) = admin.run(hashes, t=alice.tenant_id), admin.run(hashes, t=organization)
    assert old != new


def test_into_an_empty_organization(api, mallory, people, alice, furnished, saved, command, exports):
    """Whoever is a member there stays one."""
    done = command(saved()[0], "--organization", mallory.tenant_id)

    assert done.returncode == 0, done.stderr
    members = {item["user"]["id"] if "user" in item else item["user_id"] for item in people_of(api, mallory)}
    assert {mallory.user_id, alice.user_id} <= members
    assert api.get("/v1/projects", headers=mallory).json["items"][0]["name"] == "Atlas"


def people_of(api, person):
    return api.get("/v1/members", headers=person).json["items"]


def test_not_into_one_that_has_something(api, admin, mallory, furnished, saved, command):
    api.post("/v1/teams", json={"name": "Mine"}, headers=mallory)
    before = last_audit_event(admin, mallory)

    done = command(saved()[0], "--organization", mallory.tenant_id)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "not imported: the organization is not empty: it has teams\n"
    assert last_audit_event(admin, mallory) == before


def test_twice_into_the_same(api, mallory, furnished, saved, command):
    file, _ = saved()
    assert command(file, "--organization", mallory.tenant_id).returncode == 0
    assert "not empty" in command(file, "--organization", mallory.tenant_id).stderr


def test_a_killed_import_leaves_nothing(stack, admin, small, saved, command, standing_still_at, tmp_path):
    """And can be begun again."""
    file, _ = saved()
    before = organizations(admin)
    options = [str(file), "--root", str(Path(stack["path"]).parent)]
    with standing_still_at("app.tasks"):
        running = subprocess.Popen([sys.executable, "-m", "local.import_export", *options], cwd=CHECKOUT)
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%_import%'"
        wait_until(lambda: admin.run(waiting), 30, "the import")
        running.kill()
        running.wait()
        assert organizations(admin) == before

    assert command(file).returncode == 0
    assert organizations(admin) == [[before[0][0] + 1]]


def test_not_into_nothing(alice, saved, command):
    done = command(saved()[0], "--organization", str(uuid.uuid4()))
    assert (done.returncode, done.stderr) == (1, "not imported: there is no such organization\n")


def rebuilt(file, change, *, honest=True):
    """The package with changed files; `honest` writes a manifest that fits them."""
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    change(files, manifest)
    if honest:
        known = {entry["path"]: entry for entry in manifest["files"]}
        manifest["files"] = [
            {**known.get(name, {}), "path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        ]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            archive.writestr(name, data)


def replace(name, old, new):
    def change(files, _manifest):
        assert old in files[name], files[name][:300]
        files[name] = files[name].replace(old, new, 1)

    return change


def put(name, data):
    return lambda files, _manifest: files.__setitem__(name, data)


def drop(name):
    return lambda files, _manifest: files.pop(name)


def ask_for(**request):
    return lambda _files, manifest: manifest["request"].update(request)


def foreign_row(files, _manifest):
    files["data/projects.json"] = re.sub(
        rb'"tenant_id":"[0-9a-f]{8}', b'"tenant_id":"00000000', files["data/projects.json"]
    )


BAD = {
    "an altered file": (replace("data/projects.json", b"Atlas", b"Atlus"), False, "was altered"),
    "a missing file": (drop("data/teams.json"), False, "data/teams.json is missing"),
    "a file too much": (put("data/x.json", b"[]\n"), False, "does not stand in manifest.json"),
    "an unknown table": (put("data/secrets.json", b"[]\n"), True, "manifest.json is not that of an export"),
    "a path": (put("../evil.json", b"[]\n"), True, "'../evil.json'"),
    "another scope": (ask_for(scope="me"), True, "scope me"),
    "another format": (ask_for(format="csv"), True, "as csv"),
    "a column too much": (replace("data/projects.json", b'"id":', b'"x":1,"id":'), True, "does not have the columns"),
    "a column too few": (replace("data/projects.json", b'"name":"Atlas",', b""), True, "does not have the columns"),
    "another form": (replace("schema/projects.json", b'"name"', b'"title"'), True, "another release"),
    "not an array": (replace("data/projects.json", b"[\n", b"{\n"), True, "not an array"),
    "broken JSON": (replace("data/projects.json", b'{"tenant_id"', b'{{"tenant_id"'), True, "not valid JSON"),
    "a wrong type": (replace("data/projects.json", b'"id":"', b'"id":"x'), True, "the database refuses a row"),
    "a foreign row": (foreign_row, True, "belongs to another organization"),
    "a row without its parent": (put("data/projects.json", b"[]\n"), True, "manifest.json says 1"),
    "two organizations": (
        lambda _files, manifest: manifest["organizations"].append(manifest["organizations"][0]),
        True,
        "contradicts itself",
    ),
}


@pytest.fixture
def small(api, alice):
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)


def organizations(admin: pg8000.native.Connection):
    return admin.run("SELECT count(*) FROM app.organizations")


def test_what_is_wrong_is_named_and_nothing_is_left(admin, alice, small, saved, command):
    file, _ = saved()
    good = file.read_bytes()
    for what, (change, honest, named) in BAD.items():
        file.write_bytes(good)
        rebuilt(file, change, honest=honest)
        before = organizations(admin)

        done = command(file)

        assert (done.returncode, done.stdout) == (1, ""), what
        assert done.stderr.startswith("not imported: "), (what, done.stderr)
        assert named in done.stderr, (what, done.stderr)
        assert done.stderr.count("\n") == 1, (what, done.stderr)
        assert organizations(admin) == before, what


def test_a_file_that_is_none(tmp_path, command):
    assert "there is no file" in command(tmp_path / "nothing.zip").stderr
    (tmp_path / "text.zip").write_text("hello")
    assert "not a ZIP file" in command(tmp_path / "text.zip").stderr


def test_a_torn_file(tmp_path, small, saved, command):
    file, package = saved()
    content = bytearray(package.content)
    offset = package.archive.getinfo("data/audit_events.json").header_offset
    content[offset + 60 : offset + 90] = bytes(30)
    file.write_bytes(content)
    done = command(file)
    assert done.returncode == 1
    assert re.match(r"not imported: data/audit_events.json (cannot be read|was altered)", done.stderr), done.stderr


def test_a_function_may_not(stack, admin):
    for role in stack["postgres"]:
        if role != "admin":
            for signature in (
                "platform.open_import(uuid, boolean, text[])",
                "platform.import_rows(text, text[], json, boolean)",
                "platform.close_import(text, text)",
            ):
                may = "SELECT has_function_privilege(:r, CAST(:f AS regprocedure), 'EXECUTE')"
                assert admin.run(may, r=role, f=signature) == [[False]], (role, signature)

"""Large tables come in even ranges of their key, whatever the key is; no row is lost, and memory stays small."""

import json
import uuid
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import psutil
from hypothesis import given
from hypothesis import strategies as st

from functions.exports.writing import LARGEST, ranges
from tests.conftest import pid_of

ROWS = 150_000
MIB_AT_MOST = 256
INSERTS = (
    "INSERT INTO app.tasks (tenant_id, id, project_id, title, created_by) SELECT CAST(:tenant AS uuid), uuidv7(),"
    " gen_random_uuid(), 'task ' || n, CAST(:person AS uuid) FROM generate_series(1, CAST(:rows AS integer)) n",
    "INSERT INTO app.team_members (tenant_id, team_id, user_id) SELECT CAST(:tenant AS uuid),"
    " CAST('00000000-0000-4000-8000-00000000000' || n % 2 AS uuid), gen_random_uuid()"
    " FROM generate_series(1, CAST(:rows AS integer)) n",
    "INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, action, resource_type, outcome, request_id,"
    " personal_hash, prev_hash, hash) SELECT CAST(:tenant AS uuid), 1000000 + n * n, now(), 'system', 'test.done',"
    " 'test', 'success', 'r', '', '', '' FROM generate_series(1, CAST(:rows AS bigint)) n",
)


def peak_mib(stack, service):
    root = psutil.Process(pid_of(stack, service))
    status = [Path(f"/proc/{each.pid}/status").read_text() for each in (root, *root.children(recursive=True))]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in status) / 1024


def test_any_key_has_even_ranges(stack, admin, alice, exports):
    """Ids in the order of time, keys of two columns of which the first says little, numbers with ever larger gaps."""
    admin.run("SET session_replication_role = replica")
    for sql in INSERTS:
        admin.run(sql, **{n: v for n, v in {"person": alice.user_id, "tenant": alice.tenant_id, "rows": ROWS}.items()
                          if f":{n}" in sql})  # fmt: skip
    admin.run("SET session_replication_role = origin")

    export_id = exports.request(alice, scope="organization")
    assert exports.ended(alice, export_id, 120)["status"] == "ready"
    package = exports.download(alice, export_id)

    copied = defaultdict(list)
    sql = "SELECT table_name, row_count FROM platform.export_parts WHERE job_id = :id ORDER BY name"
    for table, rows in admin.run(sql, id=export_id):
        copied[table].append(rows)
    for table, key in (("tasks", ["id"]), ("team_members", ["team_id", "user_id"]), ("audit_events", ["seq"])):
        first, second = copied[f"app.{table}"]
        assert first + second >= ROWS
        assert 0.5 < first / second < 2, table
        keys = [tuple(row[name] for name in key) for row in package.rows(table)]
        assert len(keys) == len(set(keys)) == first + second
        assert keys == sorted(keys)
    assert peak_mib(stack, "exports-jobs") < MIB_AT_MOST


def test_the_same_data_makes_the_same_files(api, alice, exports):
    for number in range(20):
        api.post("/v1/projects", json={"name": f"Project {number}"}, headers=alice)
    first, second = (exports.package(alice, scope="organization").manifest["files"] for _ in range(2))

    changing = ("manifest.json", "index.html", "data/audit_events.json")
    assert [file for file in first if file["path"] not in changing] == [
        file for file in second if file["path"] not in changing
    ]


@given(st.integers(0, 100_000_000), st.lists(st.integers(), unique=True, max_size=3000))
def test_ranges_touch_and_leave_nothing_out(rows, keys):
    sample = [{"id": key} for key in sorted(keys)]
    found = ranges(rows, sample)

    assert (found[0][0], found[-1][1]) == (None, None)
    assert all(before[1] == after[0] for before, after in pairwise(found))
    bounds = [json.loads(last)["id"] for _, last in found[:-1]]
    assert bounds == sorted(set(bounds))


def test_parts_are_as_many_as_help():
    def made(rows):
        sample = [{"id": str(uuid.UUID(int=number))} for number in range(rows // 1000)]
        return len(ranges(rows, sample))

    assert [made(rows) for rows in (0, 1, 100_000, 100_001, 450_000, 2_000_000, 8_000_000)] == [1, 1, 1, 2, 5, 8, 8]
    assert made(40 * LARGEST) == 40

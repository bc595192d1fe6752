"""The status page of a whole stack: every service runs, a job is seen step by step, and nobody's data is shown."""

from pathlib import Path
from typing import Any

import requests

from tests.conftest import PASSWORD, Api, People, Person, wait_until


def test_a_stack_is_told_as_it_is(stack: dict[str, Any], api: Api, people: People) -> None:
    alice: Person = people.create("owner", password=PASSWORD)
    made = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=alice)
    assert made.status_code == 202

    def finished() -> Any:
        state = requests.get(f"{stack['status']}/state", timeout=20).json()
        jobs = {job["id"]: job for job in state["records"]["jobs"]}
        done = jobs.get(made.json["id"], {}).get("status") == "done"
        return state if done and "exports" in state["traffic"]["services"] else None

    state = wait_until(finished, 60, "the export")

    services = {row["name"]: row for row in state["services"]["services"] if row["group"] != "step"}
    assert {"gateway", "postgres", "auth", "sessions-1", "scheduler", "status"} <= set(services)
    assert set(services) <= set(stack["pids"])  # whose numbers change, where another test killed one
    assert [name for name, row in services.items() if not Path(f"/proc/{row['pid']}").exists()] == []
    assert [name for name, row in services.items() if not row["memory"]] == []
    assert services["gateway"]["health"]["checks"] == {"database": "ok", "cache": "ok"}
    job = next(job for job in state["records"]["jobs"] if job["id"] == made.json["id"])
    assert (job["kind"], job["scope"], job["mailed"], job["assembled"]) == ("export", "me", True, True)
    assert job["progress_done"] == job["progress_total"] > 0
    assert job["id"] in {each["job"] for each in state["executions"]}
    assert state["records"]["outbox"]["sent"] >= 1
    assert state["records"]["database"]["logins"]["exports"]
    assert sum(state["traffic"]["services"]["exports"]["counts"]) >= 1
    assert state["records"]["answered"] == {"blocks": [], "incidents": []} or state["records"]["answered"]["incidents"]
    assert {series["alert"] for series in state["alerts"]["series"]} >= {"failed_log_ins"}
    shown = str(state)
    assert [each for each in (alice.email, alice.name, alice.user_id, alice.tenant_id) if each in shown] == []

"""Run books and docs/scale.md: complete where they list, with the figures of register and catalog."""

import math
import re
import shlex
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml

from common.register import register
from local.layout import CATALOG
from migrations.operator.arguments import parser
from tests.structure import proofs
from tests.structure.sources import in_git, read
from tests.structure.test_connection_budget import PODS, REVISIONS

RUNBOOKS = [path for path in in_git() if path.parts[:2] == ("docs", "runbooks")]
LEVEL = re.compile(r"^\| (P\d) \| ([^|]+) \|", re.MULTILINE)


def test_each_secret_has_its_row() -> None:
    """What it opens when it is known, and how it is turned."""
    catalog = yaml.safe_load(CATALOG.read_text())
    entries = [entry for part in ("services", "workloads", "jobs") for entry in catalog[part].values()]
    secrets = {id for entry in entries for id in entry["secrets"]} | set(catalog["by_hand"])
    rows = "".join(re.findall(r"^\| (`[^|]*) \|", read("docs/runbooks/key-compromise.md"), re.MULTILINE))
    assert sorted(id for id in secrets if f"`{id}`" not in rows) == []
    assert "`context-key-<role>`" in rows


def test_severities_mean_the_same_everywhere() -> None:
    incidents, respond = (dict(LEVEL.findall(read(f"docs/{page}.md"))) for page in ("incidents", "runbooks/respond"))
    assert list(respond) == list(incidents) == ["P0", "P1", "P2", "P3"]
    assert [level for level, means in respond.items() if means not in incidents[level]] == []


GCLOUD = """gcloud() { printf '%s\\n' "$@" >>"$CALLS"; case "$3" in execute) return "$ENDS" ;; esac; }
sleep() { :; }
"""


@pytest.mark.parametrize("ends", [0, 1])
@pytest.mark.parametrize(
    ("words", "job"),
    [
        (["incident", "open", "--title", "It's open, to all", "--severity", "P0", "--all"], "operator"),
        (["rotate-keys", "--now", "--reason", "ticket 4711", "jwt-keyring"], "rotate-keys"),
    ],
)
def test_the_operators_function_hands_on_every_word(tmp_path: Path, words: list[str], job: str, ends: int) -> None:
    """Into the job that may do it, whatever is in them; it says how that ended."""
    (text,) = re.findall(r"^operator\(\) \{.*?^\}", read("docs/runbooks/respond.md"), re.MULTILINE | re.DOTALL)
    calls = tmp_path / "calls"
    environment = {"REGION": "europe-west1", "CALLS": str(calls), "ENDS": str(ends), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", f'{GCLOUD}\n{text}\noperator "$@"', "-", *words], env=environment, check=False)

    assert done.returncode == ends
    said = calls.read_text().splitlines()
    given = next(line for line in said if line.startswith("--args=")).removeprefix("--args=^;^").split(";")
    assert (said[:4], given) == (["run", "jobs", "execute", job], words)
    assert said[said.index("logs") - 2 : said.index("logs") + 3] == ["run", "jobs", "logs", "read", job]
    assert job in yaml.safe_load(CATALOG.read_text())["jobs"]
    parser().parse_args(given)


FILLED = {"ORGANIZATION|ACCOUNT|JOB|MESSAGE|INCIDENT|ID": str(uuid.uuid4()), "NETWORK": "198.51.100.7"}


@pytest.mark.parametrize("page", RUNBOOKS, ids=str)
def test_an_act_in_the_text_is_complete(page: Path) -> None:
    """Whoever types what stands there is not asked for something that does not."""
    for words in re.findall(r"`operator ([a-z][^`…]*)`", read(page)):
        for name, value in FILLED.items():
            words = re.sub(rf"\b(?:{name})\b", value, words)
        try:
            parser().parse_args(shlex.split(words))
        except SystemExit:
            pytest.fail(f"operator {words}")


def test_what_has_to_be_written_is_there() -> None:
    """Art. 33(3) and 34(2): what an authority and the people are told of a breach, and by when."""
    page = read("docs/runbooks/breach.md")
    assert re.findall(r"^\| (\([a-d]\)|33\(1\)) \|", page, re.MULTILINE) == ["(a)", "(b)", "(c)", "(d)", "33(1)"]
    wanted = (
        "72 hours",
        "Art. 33(4)",
        "Art. 34(2)",
        "Art. 34(3)(c)",
        "notify_by",
        "no_notification_reason",
        "delay_reason",
    )
    assert [word for word in wanted if word not in page] == []


def test_periods_are_those_of_the_register() -> None:
    """What the contract is told about what stays."""
    page = read("docs/runbooks/offboarding.md")
    for table, said in (("app.invoices", "7 years"), ("app.incidents", "5 years"), ("platform.deletions", "3 years")):
        assert register().tables[table].retention.period == said
        assert f"({said}" in page


def test_what_a_run_book_cites_exists() -> None:
    for page in RUNBOOKS:
        for path, name in re.findall(r"`(tests/[a-z_0-9/]+\.py)::(\w+)`", read(page)):
            assert name in proofs.tests_in(path), f"{page}: {path}::{name}"


def test_the_budget_is_that_of_the_catalog() -> None:
    catalog = yaml.safe_load(CATALOG.read_text())
    database = catalog["database"]
    services = sum(entry["max_instances"] * entry["concurrency"] for entry in catalog["services"].values())
    pods = PODS * sum(entry["max_replicas"] * entry["pool"] for entry in catalog["workloads"].values())
    both = math.ceil(REVISIONS * services)
    said = [int(n) for n in re.findall(r"^\| .+ \| \**(\d+)\** \|$", read("docs/scale.md"), re.MULTILINE)]
    assert said == [services, both, pods, database["reserve"], both + pods + database["reserve"]]
    assert f"`max_connections` {database['max_connections']}" in read("docs/scale.md")

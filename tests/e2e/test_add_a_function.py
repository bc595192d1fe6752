"""Adding a function is one folder and one entry of the catalog: docs/add-a-function.md, followed in a scratch copy.

And what it may need then, in a copy of that: docs/how-to/add-a-table.md and add-a-permission.md.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHECKOUT

PAGE = (CHECKOUT / "docs" / "add-a-function.md").read_text()
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
CATALOG = "functions/catalog.yaml"
GROWTH = [(CHECKOUT / "docs" / "how-to" / f"add-a-{name}.md").read_text() for name in ("table", "permission")]
WHERE = r"(?:, (above|below|in the place of|at the end)(?: (.+?))?)?"
PIECE = re.compile(
    rf"^```(?:python|yaml|sql|markdown)\n(?:#|--|<!--) ([\w./-]+){WHERE}(?: -->)?\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)
RULES = (
    *("catalog", "functions", "routes", "imports", "database", "connection_budget"),
    *("openapi_document", "errors_documented"),
    *("register", "register_docs", "register_references", "audit_trail"),
)
UNCHANGED = "not test_catching and not absolute"  # rules about each file of the repository, one test a file

SECRETS = {"jwt-verify-keyring", "cursor-key", "edge-key", "context-key-greetings_fn", "sentry-dsn", "valkey-ca"}
needs_terraform = pytest.mark.skipif(shutil.which("terraform") is None, reason="no terraform on this machine")


def run(copy: Path, *arguments: str) -> str:
    """A module in the copy; its output. Nothing of the checkout is on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=copy,
        env={name: value for name, value in environment.items() if not name.startswith("PYTEST_XDIST")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git knows of this checkout, with the page followed."""
    copy = tmp_path_factory.mktemp("scratch") / "copy"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in (name for name in names if name and (CHECKOUT / name).is_file()):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, copy / name)
    for name, text in FILES.items():
        if name == CATALOG:
            before = (copy / name).read_text()
            assert before.count("\nservices:\n") == 1
            text = before.replace("\nservices:\n", f"\nservices:\n{text}")
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(text)
    run(copy, "local.openapi")
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=copy, check=True)
    return copy


def test_the_page_is_one_folder_and_one_entry() -> None:
    product = {name for name in FILES if not name.startswith("tests/")}
    folder = {f"functions/greetings/{name}.py" for name in ("__init__", "main", "schemas", "queries")}
    assert product == {*folder, CATALOG}


def test_nothing_else_changes_but_what_is_generated(copy: Path) -> None:
    changed = [
        path.relative_to(copy).as_posix()
        for path in copy.rglob("*")
        if path.is_file()
        and ".git" not in path.parts
        and "__pycache__" not in path.parts
        and not ((same := CHECKOUT / path.relative_to(copy)).exists() and same.read_bytes() == path.read_bytes())
    ]
    assert {*changed} == {*FILES, "functions/auth/openapi.json", "terraform/gateway.json.tftpl"}


def test_the_gateway_has_its_paths(copy: Path) -> None:
    document = json.loads(run(copy, "local.gateway", "--print-document"))

    paths = document["paths"]["/v1/greetings"]
    assert {"get", "head", "options"} <= set(paths)
    assert paths["get"]["x-google-backend"] == "greetings"
    assert document["x-google-api-management"]["backends"]["greetings"]["address"] == "${greetings}"
    public = json.loads((copy / "functions" / "auth" / "openapi.json").read_text())
    assert public["paths"]["/v1/greetings"]["get"]["tags"] == ["Greetings"]
    assert {"name": "Greetings", "description": "Greetings for members."} in public["tags"]


def place(text: str, how: str, where: str, piece: str) -> str:
    """A file with the piece in it: at its end, or at the one line that begins so."""
    if how == "at the end":
        return text + piece
    lines = text.splitlines(keepends=True)
    found = [number for number, line in enumerate(lines) if line.startswith(where)]
    assert len(found) == 1, where
    first, last = {"above": (0, 0), "below": (1, 1), "in the place of": (0, 1)}[how]
    lines[found[0] + first : found[0] + last] = [piece]
    return "".join(lines)


@pytest.fixture(scope="module")
def grown(copy: Path) -> Path:
    """The function with a table and a permission, as the how-tos say."""
    grown = shutil.copytree(copy, copy.parent / "grown", symlinks=True)
    for page in GROWTH:
        for name, how, where, piece in PIECE.findall(page):
            number = int(max((grown / "migrations").glob("[0-9]*.sql")).name[:4]) + 1
            file = grown / name.replace("NNNN", f"{number:04}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(place(file.read_text(), how, where, piece) if how else piece)
    for command in ("local.openapi", "local.privacy_docs"):
        assert any(f"python -m {command}\n" in page for page in GROWTH)
        run(grown, command)
    subprocess.run(["git", "add", "-A"], cwd=grown, check=True)
    return grown


def test_the_stack_runs_it_and_the_rules_hold(grown: Path) -> None:
    """In the copy, with a stack of its own: the pages' tests through the gateway, and the rules about the code."""
    rules = [f"tests/structure/test_{name}.py" for name in RULES]
    tests = ["tests/greetings", "tests/organizations/test_permissions_page.py"]

    said = run(grown, "pytest", "-q", "-p", "no:xdist", "-k", UNCHANGED, *rules, *tests)

    assert re.search(r"^\d{3,} passed", said.splitlines()[-1]), said[-500:]
    assert "skipped" not in said.splitlines()[-1]


def test_the_bundle_has_its_folder(copy: Path) -> None:
    path = run(copy, "local.bundle", "greetings").strip()

    assert Path(path) == copy / "build" / "greetings.zip"


@pytest.fixture(scope="module")
def about(copy: Path) -> dict[str, Any]:
    """Address → values of what the plan of production makes for it in the copy, and grants to its account."""
    file = copy.parent / "plan.json"
    run(copy, "tools.terraform.plan", "production", "--resolved", "--json", str(file))
    plan = json.loads(file.read_text())["planned_values"]["root_module"]["resources"]
    return {item["address"]: item["values"] for item in plan if "greetings" in json.dumps(item)}


@needs_terraform
def test_terraform_makes_what_it_needs(about: dict[str, Any]) -> None:
    service = about['google_cloud_run_v2_service.main["greetings"]']
    account = about['google_service_account.main["greetings"]']
    assert account["account_id"] == "dc-greetings"
    assert service["ingress"] == "INGRESS_TRAFFIC_ALL"
    template = service["template"][0]
    assert template["service_account"] == account["email"]
    assert template["scaling"][0]["max_instance_count"] == 1
    mounted = {item["secret"][0]["secret"] for item in template["volumes"] if item["secret"]}
    assert {name.rsplit("/", 1)[-1] for name in mounted} == SECRETS
    assert 'google_sql_user.main["greetings"]' in about
    assert 'google_secret_manager_secret.main["context-key-greetings_fn"]' in about


@needs_terraform
def test_its_account_may_what_the_entry_says_and_no_more(about: dict[str, Any]) -> None:
    member = about['google_service_account.main["greetings"]']["member"]
    grants = {address: values for address, values in about.items() if "role" in values}
    held = {(address, values["role"]) for address, values in grants.items() if values.get("member") == member}
    reader = 'google_secret_manager_secret_iam_member.reader["{}/greetings"]'
    project = 'google_project_iam_member.main["greetings/{}"]'
    quota = 'google_project_iam_member.caller["greetings"]'  # our own role: tests/terraform/test_iam.py
    roles = (
        *("roles/cloudsql.client", "roles/cloudsql.instanceUser", "roles/memorystore.dbConnectionUser"),
        *("roles/telemetry.metricsWriter", "roles/telemetry.tracesWriter"),
    )
    assert held == {
        *((reader.format(secret), "roles/secretmanager.secretAccessor") for secret in SECRETS),
        *((project.format(role), role) for role in roles),
        (quota, about[quota]["role"]),
    }
    invokers = {address for address, values in grants.items() if values["role"] == "roles/run.invoker"}
    assert invokers == {
        'google_cloud_run_v2_service_iam_member.invoker["greetings/gateway"]',
        'google_cloud_run_v2_service_iam_member.release["greetings"]',  # who releases asks for its health
    }

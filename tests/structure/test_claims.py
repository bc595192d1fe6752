"""Claims of the two security guides that no other file is about: docs/compliance/claims.md cites each of these."""

import ast
import json
import re
import subprocess
import sys
from dataclasses import fields

import yaml

from common import access
from common.http import Route
from common.register import register
from common.settings import Settings
from functions.audit.incident_schemas import SEVERITY
from tests.structure.sources import CHECKOUT, in_git, python_of, read, tree_of
from tests.structure.test_routes import ROUTES

PRODUCT = ("common", "functions", "sessions")
OF_TENANTS = {
    name for name, table in register().tables.items() if name.startswith("app.") and "tenant_id" in table.columns
}
TOUCHED = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|USING|ONLY)\s+(app\.\w+)\b(?!\s*\()")
CLASSES = ("public", "internal", "restricted", "confidential")  # in the order of guide B
AT_LEAST = {  # guide B, PII handling: a column's name, and the class that it has at least
    r"email$": "internal",
    r"phone": "internal",
    r"^(total|billed_to|company|vat_id|address)$": "restricted",
    r"^(password|key|token|code)_hash$": "confidential",
    r"^secret$": "confidential",
}
NEVER_TAKEN = re.compile(r"card|cvv|cvc|iban|account_number|ssn|social_sec|passport|tax_id_number|bank")
OPEN = {  # whoever adds a route without a log-in adds it here, and says in its review why
    *("GET /health/", "GET /health/ready", "GET /v1/openapi.json", "GET /docs", "GET /docs/errors/<code>"),
    *("GET /.well-known/jwks.json", "GET /.well-known/security.txt"),
    *("GET /v1/audit-events/keys", "GET /v1/deletions/certificate-keys"),
    # ways in: each asks for a proof of its own
    *("POST /v1/auth/register", "POST /v1/auth/email/verify", "POST /v1/auth/email/resend", "POST /v1/auth/login"),
    *("POST /v1/auth/mfa/challenge", "POST /v1/auth/mfa/verify", "POST /v1/auth/refresh"),
    *("POST /v1/auth/password/forgot", "POST /v1/auth/password/reset", "POST /v1/invitations/accept"),
    *("GET /v1/auth/oidc/<provider>/start", "GET /v1/auth/oidc/<provider>/callback"),
    # pages behind the links of mails, and what a signed link or receipt opens by itself
    *("GET /verify-email", "GET /reset-password", "GET /accept-invitation", "GET /export", "GET /deletion"),
    *("GET /v1/consents/unsubscribe", "POST /v1/consents/unsubscribe"),
    "GET /v1/deletions/<uuid:deletion_id>/status",
    "GET /v1/deletions/<uuid:deletion_id>/certificate",
    "POST /v1/deletions/<uuid:deletion_id>/acknowledgements",
}


def statements(tree):
    """Each text of a file that reads or writes tables of organizations, with them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            tables = set(TOUCHED.findall(node.value)) & OF_TENANTS
            if tables:
                yield node.value, tables


def unbound(tree):
    """The tables of statements that do not name the tenant of their transaction."""
    return [tables for text, tables in statements(tree) if ":tenant_id" not in text]


def test_a_statement_names_its_tenant():
    found = {str(path): list(statements(tree_of(path))) for path in python_of(*PRODUCT)}
    assert sum(map(len, found.values())) > 60
    assert [(str(path), unbound(tree_of(path))) for path in python_of(*PRODUCT) if unbound(tree_of(path))] == []


def test_the_rule_about_tenants_refuses():
    wrong = ast.parse('tx.rows("SELECT name FROM app.projects WHERE id = :id")\ntx.rows("SELECT 1")')
    assert unbound(wrong) == [{"app.projects"}]


def test_a_secret_in_a_file_is_found(tmp_path):
    """What the hook and make lint run, with our baseline; the secrets are made up."""
    planted = {
        "key.py": 'KEY = "AKIA' + 'Q7T2ZL5XWNB4MVEJ"\n',
        "pem.txt": "-----BEGIN RSA PRIVATE " + "KEY-----\n",
        "config.yaml": 'password: "hunter-' + '2-hunter-2"\n',
        "token.json": '{"token": "ghp_' + 'k3Yt9QwErTyUiOpAsDfGhJkLzXcVbNm1Q2w3"}\n',
    }
    for name, text in planted.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "nothing.py").write_text('GREETING = "hello"\n')
    command = [sys.executable, "-m", "detect_secrets.pre_commit_hook", "--baseline", ".secrets.baseline"]
    files = [str(path) for path in tmp_path.iterdir()]
    done = subprocess.run([*command, *files], cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert set(re.findall(rf"{re.escape(str(tmp_path))}/([\w.]+)", done.stdout)) == set(planted)


def test_every_file_of_git_is_scanned_for_secrets():
    """Both halves of git, and nothing is known and passed over."""
    lines = [line for line in read("Makefile").splitlines() if "detect-secrets-hook" in line]
    assert any("git ls-files -z ':!tests'" in line for line in lines)
    assert any("git ls-files -z tests" in line for line in lines)
    assert json.loads(read(".secrets.baseline"))["results"] == {}


def test_no_page_allows_more_than_itself():
    """Scripts and styles of a page are named by their hashes; nothing is allowed wholesale."""
    sources = [path for path in in_git() if path.parts[0] in PRODUCT and path.suffix in {".py", ".html", ".js"}]
    assert [str(path) for path in sources if re.search(r"unsafe-(inline|eval|hashes)", read(path))] == []


def test_limits_of_the_guides():
    defaults = {field.name: field.default for field in fields(Settings)}
    assert defaults["rate_anonymous"] == "100/hour"
    assert defaults["rate_user"] == "1000/hour"
    assert defaults["rate_ip"] == "1000/minute"
    assert defaults["rate_organization"] == "10000/minute"


def test_nothing_switches_csrf_off():
    """No setting, and no route that asks for itself not to be asked."""
    assert [field.name for field in fields(Settings) if "csrf" in field.name] == []
    assert [field.name for field in fields(Route) if re.search("csrf|cookie", field.name)] == []
    assert [str(path) for path in python_of(*PRODUCT) if re.search(r"csrf_exempt|csrf\s*=\s*False", read(path))] == []


def test_there_is_no_debug_mode():
    assert [field.name for field in fields(Settings) if "debug" in field.name] == []
    switched = re.compile(r"debug\s*=\s*True|\.set_debug\(|DEBUG\b|use_debugger|\bbreakpoint\(|\bpdb\b")
    found = [str(path) for path in python_of(*PRODUCT, "migrations") if switched.search(read(path))]
    assert found == []
    assert switched.search(read("Dockerfile")) is None


def test_nothing_of_an_admin_panel_is_public():
    panel = re.compile(r"admin|console|dashboard|actuator|debug|metrics|internal|operator", re.IGNORECASE)
    document = json.loads(read("functions/auth/openapi.json"))
    assert len(document["paths"]) > 80
    assert [path for path in document["paths"] if panel.search(path)] == []


def test_what_is_open_is_a_short_list():
    found = {f"{route.method} {route.path}" for _, route in ROUTES if route.needs == access.PUBLIC}
    assert found == OPEN


def test_security_is_part_of_the_one_check():
    """`make test` begins with `make lint`; that has the scanners, over everything that we deploy."""
    makefile = read("Makefile")
    assert re.search(r"^test: lint\b", makefile, re.MULTILINE)
    scan = next(line for line in makefile.splitlines() if "/bandit " in line or "$(BIN)/bandit" in line)
    deployed = {path.parts[0] for path in python_of("common", "functions", "sessions", "migrations", "local", "tools")}
    assert deployed <= set(scan.split())
    assert re.search(r'^select = \[.*"S".*\]', read("pyproject.toml"), re.MULTILINE), "ruff's security rules"
    assert "$(BIN)/ruff check" in makefile


def test_every_pull_request_runs_the_check_and_the_scans():
    """And every push to main: the one check, the scanners, and pip-audit over the locks."""
    wanted = {"checks": [".ci/run"], "security-scan": ["make audit", "make lint"]}
    for name, lines in wanted.items():
        workflow = yaml.safe_load(read(f".github/workflows/{name}.yml"))
        assert {"pull_request", "push"} <= set(workflow[True]), "YAML reads the key `on` as true"
        runs = {step.get("run", "").strip() for job in workflow["jobs"].values() for step in job["steps"]}
        assert set(lines) <= runs
        assert not any("continue-on-error" in step for job in workflow["jobs"].values() for step in job["steps"])


def test_bandit_finds_what_it_should(tmp_path):
    planted = tmp_path / "wrong.py"
    planted.write_text(
        "import hashlib\nimport subprocess\nimport pickle\n"
        "def run(text):\n    subprocess.call(text, shell=True)\n    eval(text)\n    return hashlib.md5(text)\n"
    )
    command = [sys.executable, "-m", "bandit", "--quiet", "--format", "json", "--configfile", "pyproject.toml"]
    done = subprocess.run([*command, str(planted)], cwd=CHECKOUT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert {each["test_id"] for each in json.loads(done.stdout)["results"]} >= {"B602", "B307", "B324"}


def test_an_exception_from_bandit_says_why():
    """At its line, by the rule's name, `nosec` nowhere; and what bandit skips, ruff judges with the same words."""
    code = python_of("common", "functions", "sessions", "migrations", "local", "tools", "bench")
    lines = [line for path in code for line in read(path).splitlines() if re.search(r"# no(?:qa|sec)\b", line)]
    named = [line for line in lines if re.search(r"# noqa: .*\bS\d{3}\b", line)]
    assert len(named) > 10
    assert [line for line in lines if re.search(r"# nosec|# noqa(?!: [A-Z])", line)] == []
    assert [line for line in named if not re.search(r"S\d{3} - \w.{5,}", line)] == []
    skipped = re.search(r"^skips = \[\n(.*?)^\]", read("pyproject.toml"), re.MULTILINE | re.DOTALL)
    assert skipped
    assert [line for line in skipped[1].splitlines() if not re.fullmatch(r' *"B\d{3}", # .{4,}', line)] == []


def weaker(tables):
    """Columns whose class is weaker than what guide B gives to data of their kind."""
    for table in tables:
        for column in table.columns.values():
            for name, least in AT_LEAST.items():
                if re.search(name, column.name) and CLASSES.index(column.classification) < CLASSES.index(least):
                    yield f"{table.name}.{column.name}"


def test_classes_are_no_weaker_than_the_guides():
    assert list(weaker(register().tables.values())) == []
    counted = {name: 0 for name in AT_LEAST}
    for table in register().tables.values():
        for column in table.columns:
            for name in AT_LEAST:
                counted[name] += bool(re.search(name, column))
    assert all(counted.values()), counted
    assert register().tables["app.organizations"].columns["name"].classification in CLASSES


def test_what_claims_says_to_be_stricter_is_stricter():
    columns = [column for table in register().tables.values() for column in table.columns.values()]
    ours = {column.classification for column in columns if re.search(r"email$|phone$", column.name)}
    assert ours == {"confidential"}


def test_no_column_for_cards_or_social_security():
    assert [
        f"{table.name}.{column}"
        for table in register().tables.values()
        for column in table.columns
        if NEVER_TAKEN.search(column)
    ] == []


def test_periods_of_the_guides():
    tables = register().tables
    assert tables["app.invoices"].retention.period == "7 years"
    for name in ("app.audit_events", "identity.login_sessions", "app.api_keys"):
        assert tables[name].retention.period == "90 days"
    assert register().places["security_logs"].period == "90 days"
    assert register().places["logs"].period == "30 days"


def test_severities_are_those_of_the_guide():
    """The page tells each level that the API takes, in the guide's words."""
    said = dict(re.findall(r"^\| (P\d) \| ([^|]+) \|", read("docs/incidents.md"), re.MULTILINE))
    assert tuple(said) == SEVERITY
    wanted = {
        "P0": ("critical", "breach", "whole service is down"),
        "P1": ("high", "part is down", "exploited"),
        "P2": ("medium", "slow", "nobody exploited"),
        "P3": ("low", "no effect on security"),
    }
    assert {level: [word for word in words if word not in said[level]] for level, words in wanted.items()} == {
        level: [] for level in wanted
    }

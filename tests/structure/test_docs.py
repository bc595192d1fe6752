"""What the pages name is there: links and anchors, paths, commands, modules, flags, settings, routes, codes, names."""

import importlib
import re
import shlex
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from common.errors import CODES
from common.http import Routes
from local.layout import catalog, jobs, workloads
from migrations.operator.arguments import parser
from migrations.operator.command import ACTS
from tests.structure.sources import CHECKOUT, in_git, read

PAGES = [path for path in in_git() if path.suffix == ".md" and "decisions" not in path.parts]
NOW = [path for path in PAGES if path.name != "CHANGELOG.md"]  # a changelog may name what has gone
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
TOP = {path.parts[0] for path in in_git() if len(path.parts) > 1}
OURS = {"bench", "common", "functions", "local", "migrations", "sessions", "tests", "tools"}
MODULE = re.compile(rf"python3? -m ((?:{'|'.join(OURS)})(?:\.\w+)*)([^`\n|#]*)")
ROUTE = re.compile(r"^(?:(GET|POST|PUT|PATCH|DELETE) )?(/(?:v1|internal|health|docs|\.well-known)\b[^\s?]*)")
WORDS = re.compile(r"[A-Za-z0-9_]+")
TEXTS = {
    ".py",
    ".sql",
    ".tf",
    ".yaml",
    ".yml",
    ".json",
    ".toml",
    ".tfvars",
    ".sh",
    ".html",
    ".js",
    ".properties",
    ".in",
}


def plain(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", read(page))


def shells(page: Path) -> list[str]:
    """The blocks of commands of a page."""
    return [text for language, text in BLOCK.findall(read(page)) if language == "sh"]


def commands(page: Path) -> str:
    """Everything that may be typed: blocks, and code in the running text."""
    return "\n".join([*shells(page), *CODE.findall(plain(page))])


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    found: dict[str, int] = {}
    made = set()
    for heading in re.findall(r"^#+ (.+)$", BLOCK.sub("", read(page)), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        made.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return made


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_anchors_are_headings(page: Path) -> None:
    wrong = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", plain(page)):
        there = CHECKOUT / page if not target else (CHECKOUT / page).parent / target
        if not target.startswith("http") and there.suffix == ".md":
            wrong += [f"{target}#{anchor}"] if unquote(anchor) not in anchors(there.resolve()) else []
    assert wrong == []


def paths_in(page: Path) -> list[str]:
    """The paths of the repository that a page names as code; `{a,b}` and `*` are followed, `<x>` and `…` are not."""
    found = []
    for text in CODE.findall(plain(page)):
        for word in text.split():
            word = word.split("::")[0].rstrip(".,:;")
            if "/" in word and word.split("/")[0] in TOP and not re.search(r"[<>…$\[\]()]|/x$", word):
                found.append(word)
    return found


def alternatives(path: str) -> list[str]:
    """`a/{b,c}.tf` → both."""
    match = re.search(r"\{([^}]*)\}", path)
    if not match:
        return [path]
    return [each for part in match[1].split(",") for each in alternatives(path.replace(match[0], part, 1))]


@pytest.mark.parametrize("page", NOW, ids=str)
def test_paths_exist(page: Path) -> None:
    made = (".local", ".venv", "build/", "bench/var")  # by commands
    wrong = [
        path
        for path in paths_in(page)
        if not path.startswith(made) and not all([*CHECKOUT.glob(each.rstrip("/"))] for each in alternatives(path))
    ]
    assert wrong == []


def source_of(module: str) -> list[Path]:
    """The files of a module or a package that can be run, none if it is not there."""
    path = CHECKOUT / module.replace(".", "/")
    if path.with_suffix(".py").is_file():
        return [path.with_suffix(".py")]
    return sorted(path.glob("**/*.py")) if (path / "__main__.py").is_file() else []


def flags_of(module: str) -> str:
    """What a module's own folder says, since arguments may be read beside it."""
    (first, *others) = source_of(module)
    files = [first, *others, *first.parent.glob("*.py")]
    text = "".join(file.read_text() for file in files)
    return text + (flags_of("migrations.operator") if module == "local.operator" else "")


@pytest.mark.parametrize("page", NOW, ids=str)
def test_modules_can_be_run_and_know_their_flags(page: Path) -> None:
    wrong = []
    for module, arguments in MODULE.findall(commands(page)):
        if not source_of(module):
            wrong.append(module)
            continue
        known = flags_of(module)
        wrong += [
            f"{module} {flag}" for flag in re.findall(r" (--[a-z][a-z-]*)", arguments) if f'"{flag}"' not in known
        ]
    assert wrong == []


@pytest.mark.parametrize("page", NOW, ids=str)
def test_acts_of_the_operator_exist(page: Path) -> None:
    firsts = {act.split()[0] for act in ACTS}
    for first, second in re.findall(
        r"(?:(?:local|migrations)\.operator|`operator) ([a-z][a-z-]+)(?: ([a-z]+))?", read(page)
    ):
        assert first in firsts
        assert first in ACTS or not second or f"{first} {second}" in ACTS


@pytest.mark.parametrize("page", [page for page in NOW if "operator " in "".join(shells(page))], ids=str)
def test_the_operator_takes_these_arguments(page: Path) -> None:
    """Each line as it stands, but for those with something to fill in."""
    for line in re.findall(
        r"^ *(?:(?:\.venv/bin/)?python -m (?:local|migrations)\.)?operator (.+)$",
        "\n".join(shells(page)),
        re.MULTILINE,
    ):
        if not re.search(r"[A-Z]{3}|[$…]", line.split("#")[0]):
            parser().parse_args(shlex.split(line, comments=True))


@cache
def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_make_knows_its_targets(page: Path) -> None:
    named = re.findall(r"(?:^|[\s;&|])make ([a-z]+(?:-[a-z]+)*)", commands(page))
    assert set(named) <= targets()


@pytest.mark.parametrize("page", NOW, ids=str)
def test_jobs_exist(page: Path) -> None:
    schedule = {entry["name"] for entry in yaml.safe_load(read("local/schedule.yaml"))}
    text = commands(page)
    assert set(re.findall(r"gcloud scheduler jobs run ([a-z-]+)", text)) <= schedule
    assert set(re.findall(r"gcloud run jobs execute ([a-z-]+)", text)) <= set(jobs())


REGIONAL = {  # commands of gcloud about what stands in a region: without it they ask, or fail in a script
    **{"run jobs execute": "--region", "run jobs logs": "--region", "run services": "--region"},
    **{"scheduler jobs run": "--location", "workflows executions": "--location", "api-gateway": "--location"},
    **{"builds submit": "--region", "builds triggers": "--region", "builds connections": "--region"},
}


@pytest.mark.parametrize("page", NOW, ids=str)
def test_gcloud_is_told_where(page: Path) -> None:
    lines = re.findall(r"gcloud (?:beta )?([a-z][^\n|]*)", commands(page).replace("\\\n", " "))
    wrong = [
        line
        for line in lines
        for command, flag in REGIONAL.items()
        if line.startswith(command + " ") and flag not in line and "…" not in line
    ]
    assert wrong == []


@pytest.mark.parametrize("page", [page for page in NOW if shells(page)], ids=str)
def test_commands_are_shell(page: Path) -> None:
    """bash reads them, without executing any."""
    done = subprocess.run(["bash", "-n"], input="\n".join(shells(page)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@cache
def routes() -> set[tuple[str, str]]:
    """Method and path of every route, each parameter as `*`."""
    for module in [*(f"functions.{entry['folder']}.main" for entry in catalog().values()), "sessions.main"]:
        importlib.import_module(module)
    known = {*catalog(), *workloads()}
    return {(route.method, starred(route.path)) for t in Routes.tables if t.service in known for route in t.routes}


ELSEWHERE = {"/health/serving", "/v1/traces", "/v1/metrics"}  # of the server of sessions, of the Telemetry API


def starred(path: str) -> str:
    """A path whose parameters are `*`, however they are written."""
    path = re.sub(r"[<{][^>}]*[>}]|\[[^\]]*\]", "*", path).rstrip("/.,;:")
    return re.sub(r"/[0-9a-f]{8}-[0-9a-f-]{27}|/\$\w+", "/*", path)


def leads(path: str, known: str, *, begins: bool) -> bool:
    """Whether a path of a page is a route, or what a route begins with."""
    ours, theirs = path.split("/"), known.split("/")
    fits = all(there in ("*", here) for here, there in zip(ours, theirs, strict=False))
    return fits and (len(ours) == len(theirs) or (begins and len(ours) < len(theirs)))


@pytest.mark.parametrize("page", [page for page in NOW if page.name not in ("add-a-function.md", "start.md")], ids=str)
def test_routes_exist(page: Path) -> None:
    """As they stand, or, without a method, as what several begin with; `…`, `*` and `%` are not followed."""
    wrong = []
    for text in CODE.findall(plain(page)):
        found = ROUTE.match(text)
        if found and not set("…*%") & set(text) and found[2] not in ELSEWHERE:
            path, method = starred(found[2]), found[1]
            fits = [each for each, known in routes() if leads(path, known, begins=not method)]
            wrong += [] if (method in fits if method else fits) else [text]
    assert wrong == []


@pytest.mark.parametrize("page", NOW, ids=str)
def test_codes_of_errors_exist(page: Path) -> None:
    named = re.findall(r"\b([45]\d\d) `([a-z]+(?:_[a-z]+)*)`", plain(page))
    assert [(status, code) for status, code in named if CODES.get(code, (0, ""))[0] != int(status)] == []


ABROAD = {  # names of others, by the page that speaks of them
    "docs/how-to/mutual-tls.md": {
        *("ALLOW_INVALID_OR_MISSING_CLIENT_CERT", "client_cert_chain_verified", "client_cert_sha256_fingerprint"),
        *("google_network_security_backend_authentication_config", "google_network_security_server_tls_policy"),
        "server_tls_policy",
    },
    "docs/sessions-on-gke.md": {"GCE_VM_IP_PORT"},
    "docs/traps.md": {"HTTP_X_CLIENT_IP", "ssl_ca_certs"},
    "docs/compliance/asvs.md": {"authorization_details", "response_mode"},
    "docs/image.md": {"no_new_privs"},
    "docs/runbooks/key-compromise.md": {"http_code"},
    "docs/observability.md": {"prometheus_target"},
}


@cache
def words() -> set[str]:
    """Every word of the code, and the settings as the environment has them."""
    files = [path for path in in_git() if path.suffix in TEXTS or path.name in {"Makefile", "Dockerfile"}]
    found = {word for path in files for word in WORDS.findall(read(path))}
    return found | {word.upper() for word in found}


@pytest.mark.parametrize("page", NOW, ids=str)
def test_names_are_in_the_code(page: Path) -> None:
    """Settings, variables, columns, functions: what a page writes as code, with an underscore, and what it sets."""
    typed = "\n".join(shells(page))
    given = set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", typed))
    name = re.compile(r"(?<![\w/.\-$])[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+(?![\w/\-])")
    named = {word for text in CODE.findall(plain(page)) for word in name.findall(text)}
    assert named - words() - given - ABROAD.get(str(page), set()) == set()


RULES: dict[Callable[[Path], None], str] = {  # a page that breaks a rule, by the rule
    test_anchors_are_headings: "# There\n[here](#nowhere)",
    test_paths_exist: "`local/{layout,nothing}.py`",
    test_modules_can_be_run_and_know_their_flags: "`python -m local.supervisor --nothing`",
    test_acts_of_the_operator_exist: "`operator incident vanish`",
    test_the_operator_takes_these_arguments: "```sh\npython -m local.operator suspend nobody\n```",
    test_make_knows_its_targets: "`FAST=1 make nothing`",
    test_jobs_exist: "```sh\ngcloud scheduler jobs run nothing\n```",
    test_gcloud_is_told_where: "`gcloud scheduler jobs run keys`",
    test_commands_are_shell: "```sh\nif true; then\n```",
    test_routes_exist: "`POST /v1/projects/{project_id}`",
    test_codes_of_errors_exist: "404 `project_name_taken`",
    test_names_are_in_the_code: "`NO_SUCH" + "_SETTING`",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rules_refuse(rule: Callable[[Path], None], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(RULES[rule])
    with pytest.raises((AssertionError, SystemExit)):
        rule(page)


def test_the_index_leads_to_every_page() -> None:
    index = read("docs/README.md")
    linked = {(CHECKOUT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index)}
    pages = [path for path in in_git() if path.parts[0] == "docs" and path.suffix == ".md" and path.name != "README.md"]
    folders = {Path("docs/decisions"), Path("docs/privacy")}  # lists of their own
    missing = [path for path in pages if path.parent not in folders and CHECKOUT / path not in linked]
    assert missing == []
    assert {CHECKOUT / folder for folder in folders} <= linked

"""Each function is the same folder, each of its addresses is declared, and its SQL is literal."""

import ast
import inspect
import re
import uuid

import pytest
import yaml
from werkzeug.routing import Map, Rule

from local.layout import catalog, workloads
from tests.structure.sources import CHECKOUT, python_of, read, tree_of
from tests.structure.test_routes import TABLES

SERVICES = catalog()
FOLDERS = sorted({entry["folder"] for entry in SERVICES.values()})
SQL_CALLS = {"rows", "row", "value", "written", "copy_out", "single"}
BUILT = {  # SQL that is put together, and why
    "functions/exports/writing.py": "COPY binds nothing: identifiers of the register, which a test compares, and of the"
    " catalog; bounds of ranges come from settings",
}
WORKFLOWS = sorted((CHECKOUT / "workflows").glob("*.yaml"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_function_is_the_same_three_files(folder):
    there = {path.name for path in (CHECKOUT / "functions" / folder).iterdir()}
    assert {"main.py", "schemas.py", "queries.py"} <= there


def test_catalog_and_folders_agree():
    folders = {path.parent.name for path in (CHECKOUT / "functions").glob("*/__init__.py")}
    assert folders == set(FOLDERS)


@pytest.mark.parametrize(("service", "entry"), SERVICES.items(), ids=list(SERVICES))
def test_names_follow_from_one(service, entry):
    assert entry["entry"] == service.replace("-", "_")
    assert entry["role"] == entry["entry"] + "_fn"
    assert service.split("-")[0] == entry["folder"]


@pytest.mark.parametrize(("service", "entry"), SERVICES.items(), ids=list(SERVICES))
def test_the_entry_is_a_plain_function(service, entry):
    module = __import__(f"functions.{entry['folder']}.main", fromlist=["main"])
    assert inspect.isfunction(getattr(module, entry["entry"]))


@pytest.mark.parametrize(("service", "entry"), SERVICES.items(), ids=list(SERVICES))
def test_routes_lie_under_the_paths_of_the_catalog(service, entry):
    public = [
        route.path for route in TABLES[service].routes if not route.internal and not route.path.startswith("/health/")
    ]
    assert (entry["ingress"] == "all") == bool(entry["paths"])
    assert [path for path in public if not any((path + "/").startswith(given + "/") for given in entry["paths"])] == []


@pytest.mark.parametrize(("workload", "entry"), workloads().items(), ids=list(workloads()))
def test_a_workload_is_named_like_its_folder_and_fits_its_entry(workload, entry):
    assert (CHECKOUT / workload / "main.py").exists()
    assert entry["role"] == f"{workload}_fn"
    assert 1 < entry["min_replicas"] < entry["max_replicas"]
    assert "p" not in entry["kinds"]
    public = [route.path for route in TABLES[workload].routes if not route.path.startswith("/health/")]
    assert [path for path in public if not any((path + "/").startswith(given + "/") for given in entry["paths"])] == []


def test_paths_of_the_catalog_belong_to_one_of_them():
    given = [path for entry in [*SERVICES.values(), *workloads().values()] for path in entry["paths"]]
    assert len(given) == len(set(given))


def steps_of(document):
    """The addresses of a workflow, relative to the job: the `name` of each call of `step`, and literal ends of urls."""
    if isinstance(document, list):
        for item in document:
            yield from steps_of(item)
    elif isinstance(document, dict):
        arguments = document.get("args", {})
        if document.get("call") == "step":
            yield re.sub(r'^\$\{"(.*?)" \+ \w+\}$', r"\1x", arguments["name"])
        elif document.get("call", "").startswith("http."):
            yield from re.findall(r'base \+ "/([a-z/]+)"', arguments["url"])
        for value in document.values():
            yield from steps_of(value)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_addresses_of_a_workflow_exist(path):
    text = path.read_text()
    (environment,) = set(re.findall(r'sys\.get_env\("([A-Z_]+)_URL"\)', text))
    (base,) = set(re.findall(r'"(/internal/[a-z-]+/)"', text))
    routes = TABLES[environment.lower().replace("_", "-")].routes
    known = Map([Rule(route.path, methods=[route.method], endpoint=route) for route in routes]).bind("")
    steps = set(steps_of(yaml.safe_load(text)))
    assert {"claim", "failed", "finish"} <= steps
    for step in steps:
        assert known.test(f"{base}{uuid.uuid4()}/{step}", "POST"), step
    offered = {route.path.rsplit(">/", 1)[-1] for route in routes if route.internal and "/parts/" not in route.path}
    assert offered <= steps | {"parts/x"}


def test_only_settings_read_the_environment():
    product = [
        path for path in python_of("common", "functions", "migrations", "sessions") if path.name != "settings.py"
    ]
    assert [str(path) for path in product if re.search(r"os\.environ|getenv|from os import", read(path))] == []


def literal(node, constants):
    """Whether an argument is SQL as it stands in the file."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return isinstance(node, ast.Name) and node.id in constants


def sql_arguments(tree):
    """Every argument of a call that PostgreSQL will read as SQL."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in SQL_CALLS and node.args:
            yield node.args[1] if node.func.attr == "single" else node.args[0]
        elif node.func.attr == "ahead" and len(node.args) > 1:
            yield node.args[1]
        elif node.func.attr == "flight":
            yield from (argument.elts[0] for argument in node.args if isinstance(argument, ast.Tuple))


def constants_of(tree):
    """Names that the module binds once, to a string as it stands, and those that it imports in capitals."""
    bound = {
        node.targets[0].id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and literal(node.value, set())
    }
    taken = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return bound | {name for name in taken if name.isupper()}


PASSES_ON = {"db.py", "transaction.py"}  # what functions give them


@pytest.mark.parametrize(
    "path", [path for path in python_of("functions", "common", "sessions") if path.name not in PASSES_ON], ids=str
)
def test_sql_is_literal(path):
    tree = tree_of(path)
    built = [ast.unparse(node) for node in sql_arguments(tree) if not literal(node, constants_of(tree))]
    assert bool(built) == (str(path) in BUILT), built


def test_the_rule_about_sql_refuses():
    """What the test above rests on."""
    bad = ast.parse(
        'tx.rows(f"SELECT {x}")\ntx.row("a" + b)\ntx.value("%s" % x)\ntx.single(c, sql)\ntx.flight((sql, {}))'
    )
    assert [literal(node, constants_of(bad)) for node in sql_arguments(bad)] == [False] * 5


@pytest.mark.parametrize("path", python_of("common", "functions", "migrations", "local", "sessions"), ids=str)
def test_catching_everything_has_a_reason(path):
    lines = read(path).splitlines()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "Exception"):
            assert re.search(r"# noqa: BLE001 (-|\() ?.{10}", lines[node.lineno - 1]), f"{path}:{node.lineno}"

"""docs/compliance/asvs.md: every requirement of OWASP ASVS 5.0, chapters 6 to 10, with a proof that exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.structure.sources import CHECKOUT, python_of, read, tree_of

PAGE = "docs/compliance/asvs.md"
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([123]) \| ([^|]+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[a-z_0-9/]+\.py)::(\w+)`")
# how many requirements each section of version 5.0.0 has
SECTIONS = {
    **{"6.1": 3, "6.2": 12, "6.3": 8, "6.4": 6, "6.5": 8, "6.6": 4, "6.7": 2, "6.8": 4},
    **{"7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "7.6": 2},
    **{"8.1": 4, "8.2": 4, "8.3": 3, "8.4": 2, "9.1": 3, "9.2": 4},
    **{"10.1": 2, "10.2": 3, "10.3": 5, "10.4": 16, "10.5": 5, "10.6": 2, "10.7": 3},
}
ROWS = ROW.findall(read(PAGE))
WAYS_IN = {  # module that opens a login session: what docs/identity.md calls the way
    "functions/auth/sign_in.py": "Password",
    "functions/auth/registering.py": "Registration",
    "functions/auth/main.py": "Switch",
    "functions/auth/joining.py": "Invitation",
    "functions/auth/challenges.py": "Second factor",
    "functions/auth/email_change.py": "New address",
    "functions/auth/oidc.py": "OpenID Connect",
}


def test_every_requirement_has_its_row():
    expected = [f"{section}.{n}" for section, count in SECTIONS.items() for n in range(1, count + 1)]
    assert [row[0] for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_proves_what_it_says(row):
    proof = row[4]
    if proof.startswith(("Does not apply: ", "Open: ")):
        assert len(proof) > 25
        assert row[1] == "3" or not proof.startswith("Open: ")
        return
    cited = TEST.findall(proof)
    linked = re.findall(r"\]\(([^)#]+)", row[3])
    assert cited or linked
    for path, name in cited:
        names = {node.name for node in tree_of(Path(path)).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in names, f"{path}::{name}"
    for target in linked:
        assert (CHECKOUT / PAGE).parent.joinpath(target).resolve().exists(), target


def calls(path, name):
    """Whether a file calls a function of this name."""
    return any(
        isinstance(node, ast.Call) and ast.unparse(node.func).rsplit(".", 1)[-1] == name
        for node in ast.walk(tree_of(path))
    )


def test_every_way_in_is_documented():
    opening = {
        str(path) for path in python_of("functions") if any(calls(path, name) for name in ("open_session", "admit"))
    }
    assert opening == set(WAYS_IN)
    page = read("docs/identity.md")
    assert [way for way in WAYS_IN.values() if f"| {way} |" not in page] == []


def test_randomness_comes_from_the_operating_system():
    product = python_of("common", "functions", "migrations", "sessions")
    assert [str(path) for path in product if re.search(r"^\s*(import|from) random\b", read(path), re.MULTILINE)] == []


def test_no_password_has_an_age(admin):
    columns = admin.run(
        "SELECT table_name || '.' || column_name FROM information_schema.columns"
        " WHERE table_schema = 'identity' AND column_name ~ 'password'"
    )
    assert {name for (name,) in columns} >= {"accounts.password_hash"}
    assert [name for (name,) in columns if re.search(r"expire|age|rotate", name.split(".")[1])] == []


def test_no_password_hints(admin):
    columns = admin.run(
        "SELECT table_name || '.' || column_name FROM information_schema.columns"
        " WHERE table_schema IN ('identity', 'app', 'platform') AND column_name ~ '(hint|question)'"
    )
    assert columns == []


def test_a_new_database_knows_nobody():
    """No migration writes a row about a person."""
    written = [
        path.name
        for path in sorted((CHECKOUT / "migrations").glob("[0-9]*.sql"))
        for body in [re.sub(r"\$\$.*?\$\$", "", path.read_text(), flags=re.DOTALL)]
        if re.search(r"INSERT INTO identity\.", body)
    ]
    assert written == []

"""docs/compliance/asvs.md: every requirement of OWASP ASVS 5.0 with its level and a proof that exists."""

import ast
import re

import pytest

from tests.structure import proofs
from tests.structure.sources import CHECKOUT, python_of, read, tree_of

PAGE = "docs/compliance/asvs.md"
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([123]) \| ([^|]+) \| ([^|]*) \| ([^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[a-z_0-9/]+\.py)::(\w+)`")
LEVELS = {  # of the requirements of each section of version 5.0.0, one after another
    **{"1.1": "22", "1.2": "1111122223", "1.3": "112222222223", "1.4": "222", "1.5": "123"},
    **{"2.1": "122", "2.2": "112", "2.3": "12223", "2.4": "23"},
    **{"3.1": "3", "3.2": "113", "3.3": "12223", "3.4": "11222233", "3.5": "11122333", "3.6": "3", "3.7": "22333"},
    **{"4.1": "12233", "4.2": "23333", "4.3": "22", "4.4": "1222", "5.1": "2", "5.2": "112333", "5.3": "113"},
    **{"5.4": "222", "6.1": "122", "6.2": "111111112222", "6.3": "11223333", "6.4": "112233", "6.5": "22222333"},
    **{"6.6": "2223", "6.7": "33", "6.8": "2222", "7.1": "222", "7.2": "1111", "7.3": "22", "7.4": "11222"},
    **{"7.5": "223", "7.6": "22", "8.1": "1233", "8.2": "1123", "8.3": "133", "8.4": "23", "9.1": "111"},
    **{"9.2": "1222", "10.1": "22", "10.2": "223", "10.3": "22223", "10.4": "1111122222233333"},
    **{"10.5": "22222", "10.6": "22", "10.7": "222", "11.1": "2233", "11.2": "22233", "11.3": "11233"},
    **{"11.4": "1222", "11.5": "23", "11.6": "23", "11.7": "33", "12.1": "12233", "12.2": "11", "12.3": "22223"},
    **{"13.1": "2333", "13.2": "222223", "13.3": "2233", "13.4": "1222233", "14.1": "22", "14.2": "12223333"},
    **{"14.3": "122", "15.1": "12233", "15.2": "12233", "15.3": "1222222", "15.4": "3333", "16.1": "2"},
    **{"16.2": "22222", "16.3": "2222", "16.4": "222", "16.5": "2223", "17.1": "23", "17.2": "22223333"},
    "17.3": "22",
}
OPEN_AT_2 = {"4.1.2", "11.2.3"}  # whoever opens another one says so at the head of the page
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
    expected = [(f"{section}.{n}", of) for section, levels in LEVELS.items() for n, of in enumerate(levels, 1)]
    assert len(expected) == 345
    assert [(row[0], row[1]) for row in ROWS] == expected


def test_what_is_open_is_said():
    """Nothing of level 1, and of level 2 what the head of the page names."""
    found = {row[0] for row in ROWS if row[4].startswith("Open: ") and row[1] != "3"}
    assert found == OPEN_AT_2
    head = read(PAGE).split("\n## ")[0]
    assert [id for id in OPEN_AT_2 if id not in head] == []


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_proves_what_it_says(row):
    proof = row[4]
    if proof.startswith(("Does not apply: ", "Open: ")):
        assert len(proof) > 25
        return
    cited = TEST.findall(proof)
    linked = re.findall(r"\]\(([^)#]+)", row[3])
    assert cited or linked
    for path, name in cited:
        assert name in proofs.tests_in(path), f"{path}::{name}"
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

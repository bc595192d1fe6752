"""docs/settings.md, common/settings.py and the local stack name the same settings, with the same defaults."""

import re
from dataclasses import MISSING, fields

from common.settings import Settings
from local.ports import GIVEN
from tests.structure.sources import python_of, read

ROW = re.compile(r"^\| `([A-Z0-9_<>]+)` \| (.*?) \| (.+) \|$", re.MULTILINE)
READS = re.compile(r'environ(?:ment)?(?:\.get\(|\[)"([A-Z][A-Z0-9_]+)"')
NOT_SETTINGS = {"PATH", "NO_COLOR"}  # of the terminal, not of the stack


def section(title):
    """Name → default, as one section of the page says."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", read("docs/settings.md"), re.MULTILINE | re.DOTALL)
    assert found, title
    return {name: default.strip("`") for name, default, _ in ROW.findall(found[1])}


def shown(field):
    """A default as the page writes it."""
    if field.default is MISSING:
        return "required"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return str(field.default) or "empty"


def test_functions():
    assert section("Functions") == {field.name.upper(): shown(field) for field in fields(Settings)}


def test_migrations():
    assert set(section("Migrations")) == set(READS.findall(read("common/settings.py")))


def test_the_local_stack():
    """What `make run` reads itself; every setting of a function can be given there too."""
    known = set(GIVEN) | {"PROCESSES_<FUNCTION>"}
    of_functions = {field.name.upper() for field in fields(Settings)}
    for path in python_of("local"):
        known |= set(READS.findall(read(path))) - NOT_SETTINGS - of_functions
    assert set(section("The local stack")) == known

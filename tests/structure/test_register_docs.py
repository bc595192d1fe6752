"""docs/privacy says what the register says."""

import pytest

from common.register import register
from local import retention_docs
from local.privacy_docs import COMMAND, FOLDER, documents


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_page_is_current(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == documents()[name], f"run: {COMMAND}"


def test_no_other_page_is_there():
    assert {path.name for path in FOLDER.iterdir()} == set(documents())


def test_every_table_recipient_and_place_is_on_the_map():
    page = documents()["data-map.md"]
    known = register()

    assert [name for name in known.tables if f"\n### {name}\n" not in page] == []
    assert [each.title for each in known.places.values() if f"\n| {each.title} |" not in page] == []
    columns = [(t.name, c) for t in known.tables.values() for c in t.columns]
    assert page.count("\n| `") >= len(columns) > 300


def test_the_page_about_retention_is_current():
    page = retention_docs.PAGE.read_text(encoding="utf-8")

    assert page == retention_docs.page(page), f"run: {COMMAND}"
    assert [name for name in register().tables if f"\n| {name} | " not in page] == []

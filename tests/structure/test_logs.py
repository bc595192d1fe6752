"""Log entries name nobody: an entry cannot be erased, so an identifier of a person in one would outlive her."""

import ast

import pytest

from tests.structure.sources import python_of, tree_of

OF_PEOPLE = {
    "account_id",
    "user_id",
    "subject_id",
    "principal_id",
    "email",
    "address",
    "phone",
    "number",
    "ip",
    "display_name",
}


def fields(tree):
    """The names of the fields of every log entry in a file, and of the attributes and keys that fill them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "log.entry":
            for keyword in node.keywords:
                yield str(keyword.arg)
                if isinstance(keyword.value, ast.Attribute):
                    yield keyword.value.attr


@pytest.mark.parametrize("path", python_of("common", "functions"), ids=str)
def test_no_entry_names_a_person(path):
    assert set(fields(tree_of(path))) & OF_PEOPLE == set()


def test_the_rule_refuses():
    wrong = ast.parse('log.entry("NOTICE", "log-in failed", who=found.account_id, email=email)')

    assert set(fields(wrong)) & OF_PEOPLE == {"account_id", "email"}

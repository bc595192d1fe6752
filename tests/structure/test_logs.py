"""Log entries name nobody, since an entry cannot be erased; those about security say so, and are kept for longer."""

import ast
import json
import re

import pytest

from common import log
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
OF_SECURITY = re.compile(
    r"\blog-?in\b|csrf|tamper|forged|\bchain\b|operator|keys rotated|incident|privileged|provider's answer was refused"
)


def entries(tree):
    """Each call that writes a log entry, with the function's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("log.entry", "log.security"):
            yield node.func.attr, node


def fields(tree):
    """The names of the fields of every log entry in a file, and of the attributes and keys that fill them."""
    for _, node in entries(tree):
        for keyword in node.keywords:
            yield str(keyword.arg)
            if isinstance(keyword.value, ast.Attribute):
                yield keyword.value.attr


def general(tree):
    """The messages about security of entries that would go with the general logs."""
    for name, node in entries(tree):
        if name == "entry":
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            yield from (text for text in texts if isinstance(text, str) and OF_SECURITY.search(text))


@pytest.mark.parametrize("path", python_of("common", "functions", "sessions"), ids=str)
def test_no_entry_names_a_person(path):
    assert set(fields(tree_of(path))) & OF_PEOPLE == set()


def test_the_rule_refuses():
    wrong = ast.parse('log.entry("NOTICE", "log-in failed", who=found.account_id, email=email)')

    assert set(fields(wrong)) & OF_PEOPLE == {"account_id", "email"}


@pytest.mark.parametrize("path", python_of("common", "functions", "sessions", "migrations"), ids=str)
def test_what_is_about_security_is_kept_as_security_log(path):
    assert list(general(tree_of(path))) == []


def test_that_rule_refuses():
    wrong = ast.parse('log.entry("NOTICE", "log-in failed")\nlog.security("NOTICE", "log-in failed")')

    assert list(general(wrong)) == ["log-in failed"]


def made(tree):
    """The messages that the code does not write out: each could quote anybody, and Sentry is told messages."""
    for _, node in entries(tree):
        message = node.args[1]
        for each in (message.body, message.orelse) if isinstance(message, ast.IfExp) else (message,):
            if not isinstance(each, ast.Constant) and not (isinstance(each, ast.Name) and each.id.isupper()):
                yield ast.unparse(each)


@pytest.mark.parametrize("path", python_of("common", "functions", "sessions", "migrations"), ids=str)
def test_a_message_is_a_constant(path):
    assert list(made(tree_of(path))) == []


def test_a_message_that_is_made_is_found():
    wrong = 'log.entry("ERROR", f"{name}")\nlog.entry("ERROR", text if late else "late")\nlog.entry("INFO", LATE)'

    assert list(made(ast.parse(wrong))) == ["f'{name}'", "text"]


def test_the_label_stands_where_cloud_logging_reads_labels(capsys, monkeypatch):
    monkeypatch.setattr(log, "settings", lambda: type("Settings", (), {"service": "auth"}))
    log.security("NOTICE", "log-in failed")
    log.entry("INFO", "request")

    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["logging.googleapis.com/labels"] == {"log": "security"}
    assert "logging.googleapis.com/labels" not in second

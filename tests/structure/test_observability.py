"""Spans and metrics: attributes and names are a closed list that the page has, labels come from closed sets."""

import ast
import re

import pytest

from common.metrics import Histogram, Instrument
from common.tracing import NAMES
from tests.structure.sources import python_of, read, tree_of

PAGE = "docs/observability.md"
ROW = re.compile(r"^\| (`[^|]*) \|", re.MULTILINE)
MADE = {"f'send {message.kind}'", "told"}  # names of a closed set: mail, sms, workflow; a statement in two words
OPENS = {"span": (0, 2), "following": (1, 2)}  # of common.tracing: the places of the name and of the attributes
FORBIDDEN = re.compile(r"tenant|organization|user|person|account|e-?mail|address|token|key|session_id|ip\b")
GOOGLE_METRIC, GOOGLE_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_:./]*"), re.compile(r"[a-zA-Z_][a-zA-Z0-9_.]*")


def section(title):
    """The names in the first column of the table under a heading."""
    text = re.search(rf"^##+ {title}$(.*?)(?=^##|\Z)", read(PAGE), re.MULTILINE | re.DOTALL)[1]
    return {name for cell in ROW.findall(text) for name in re.findall(r"`([^`]+)`", cell)}


def calls(path, name):
    """The calls of a method of `tracing` in a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"tracing.{name}":
            yield node


FILES = [path for path in python_of("common", "functions", "sessions") if "tracing" in read(path)]


def test_the_page_has_every_attribute():
    assert section("Attributes") == NAMES


def test_the_page_has_every_metric():
    assert section("Metrics") == set(Instrument.known)


def test_no_attribute_names_anybody():
    assert [name for name in NAMES if FORBIDDEN.search(name)] == []
    assert [each.name for each in Instrument.known.values() if any(map(FORBIDDEN.search, each.labels))] == []


@pytest.mark.parametrize("name", sorted(Instrument.known))
def test_cloud_monitoring_takes_the_names(name):
    instrument = Instrument.known[name]
    assert GOOGLE_METRIC.fullmatch(name)
    assert all(map(GOOGLE_LABEL.fullmatch, instrument.labels))
    if isinstance(instrument, Histogram):
        assert list(instrument.bounds) == sorted(set(instrument.bounds))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_spans_have_constant_names_and_allowed_attributes(path):
    """A name made of a value could tell anything."""
    if path.name == "tracing.py":
        return
    for method, (name, place) in OPENS.items():
        for call in calls(path, method):
            assert isinstance(call.args[name], ast.Constant) or ast.unparse(call.args[name]) in MADE
            for given in (*call.args[place:], *(each.value for each in call.keywords if each.arg == "attributes")):
                assert isinstance(given, ast.Dict), "attributes are written out where they are given"
                assert {key.value for key in given.keys} <= NAMES
    for call in calls(path, "traced"):
        assert isinstance(call.args[0], ast.Constant)


@pytest.mark.parametrize("path", python_of("common", "functions", "sessions"), ids=str)
def test_what_is_noted_is_allowed(path):
    noted = [
        node.args[0].value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "note"
        if node.args and isinstance(node.args[0], ast.Constant)
    ]
    assert set(noted) <= NAMES


def test_opentelemetry_is_imported_where_it_sends_and_not_before():
    """At the top of no module of the product: a process that sends nothing never loads it."""
    for path in python_of("common", "functions", "sessions", "migrations"):
        for node in tree_of(path).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("opentelemetry") for name in names), path

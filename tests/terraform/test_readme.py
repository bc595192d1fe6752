"""terraform/README.md: its picture, its tables and its sums are those of the code."""

import re

import pytest
import yaml

from local.layout import catalog
from tests.conftest import CHECKOUT
from tests.terraform.plans import plan
from tools.diagram import __main__ as diagram
from tools.readme import __main__ as readme
from tools.readme import tables

SOURCE = yaml.safe_load(diagram.SOURCE.read_text())
DRAWN = [kind for node in SOURCE["nodes"].values() for kind in node.get("draws", [])]
SUPPORTING = [kind for kinds in SOURCE["supporting"].values() for kind in kinds]
DECLARED = {kind for text in tables.sources() for kind in re.findall(r'^resource "(\w+)"', text, re.MULTILINE)}
ENVIRONMENTS = ("staging", "production")
TOTAL = re.compile(r"\| \*\*a month\*\* \| \| \*\*([\d,]+)\*\* \| \*\*([\d,]+)\*\* \|")


def test_the_picture_is_that_of_its_source():
    assert diagram.PICTURE.read_text() == diagram.drawn(SOURCE)


def test_every_box_stands_for_something_that_is_made():
    assert {*DRAWN, *SUPPORTING} - DECLARED == set()
    assert [name for name, node in SOURCE["nodes"].items() if not node.get("draws") and not node.get("outside")] == []


def test_everything_that_is_made_stands_in_a_box_or_beside_one():
    assert DECLARED - {*DRAWN, *SUPPORTING} == set()
    assert len({*DRAWN, *SUPPORTING}) == len(DRAWN) + len(SUPPORTING)


def test_no_two_boxes_stand_in_one_place_and_no_text_leaves_its_box():
    places = [tuple(node["at"]) for node in SOURCE["nodes"].values()]
    assert len(set(places)) == len(places)
    for node in SOURCE["nodes"].values():
        assert len(node["title"]) <= 20
        assert all(len(note) <= 24 for note in node.get("notes", []))
        assert len(node.get("notes", [])) <= 2


def test_lines_join_what_is_there():
    known = {*SOURCE["nodes"], *SOURCE["frames"]}
    assert {end for line in SOURCE["lines"] for end in line} <= known


def test_the_tables_are_those_of_the_code():
    text = readme.README.read_text()
    assert readme.current(text) == text


def test_a_changed_variable_shows():
    found = tables.declared(
        ['variable "one" {\n  description = "What."\n  type        = list(string)\n  default = []\n}\n']
    )
    assert found == [tables.Declared("variable", "one", "What.", "[]")]
    required = tables.declared(['variable "two" {\n  description = "What."\n  type        = string\n}\n'])
    assert required[0].default is None


def test_every_variable_and_output_says_what_it_is():
    assert [entry.name for entry in tables.declared(tables.sources()) if not entry.description] == []


def test_the_table_names_every_file_and_no_other():
    text = readme.README.read_text()
    rows = text[text.index("## What stands where") : text.index("## The first time")]
    named = set(re.findall(r"`(\w+\.tf)`", rows))
    assert named == {path.name for path in tables.TERRAFORM.glob("*.tf")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_sum_is_that_of_the_lines(environment):
    text = readme.README.read_text()
    column = ENVIRONMENTS.index(environment)
    rows = re.findall(r"^\| [^|]+ \| [^|]+ / [^|]+ \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    amounts = [float(row[column].split("→")[1].replace(",", "")) for row in rows if "→" in row[column]]
    told = TOTAL.search(text)
    assert told is not None
    assert abs(sum(amounts) - float(told[column + 1].replace(",", ""))) < 1
    assert len(rows) == len(tables.prices()["items"]) > 20


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_costs_are_those_of_the_sizes(environment):
    assumed = tables.prices()["assumes"][environment]
    given = plan(environment).variables
    assert {name: given.get(name) for name in assumed} == assumed


def test_the_costs_count_what_the_catalog_says():
    assumed = tables.prices()["assumes"]
    assert assumed["warm_instances"] == sum(entry["min_instances"] for entry in catalog().values())
    schedule = yaml.safe_load((CHECKOUT / "local" / "schedule.yaml").read_text())
    assert assumed["schedules"] == len(schedule)


def test_a_price_without_a_source_is_marked():
    known = tables.prices()
    assert {item["source"] for item in known["items"] if "source" in item} <= set(known["sources"])
    lines = tables.costs().splitlines()[2:-1]
    marked = [line.split("|")[2].strip().endswith("*") for line in lines]
    assert marked == ["source" not in item for item in known["items"]]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_environment_has_a_state_of_its_own(environment):
    backend = (tables.TERRAFORM / "env" / f"{environment}.gcs.tfbackend").read_text()
    project = plan(environment).variables["project"]
    assert f'bucket = "{project}-state"' in backend

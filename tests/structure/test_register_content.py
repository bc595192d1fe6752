"""The register's own form and content: its schema, and what a data-protection officer would ask of each entry."""

import copy
import json
import re

import pytest
import yaml
from jsonschema import Draft202012Validator

from common.register import SOURCE, parse, register
from tests.structure.sources import CHECKOUT

TEXT = SOURCE.read_text()
SCHEMA = json.loads(SOURCE.with_name("register.schema.json").read_text())
DOCUMENT = yaml.safe_load(TEXT)
INTEREST = re.compile(r"Art\. 6\(1\)\(f\) GDPR[,:] (to )?[a-z]")
STAYS = re.compile(r"Art\. 17\(3\)|Art\. 4\(5\)")
TASKS = DOCUMENT["tables"]["app.tasks"]


def faults(document):
    """What the schema finds wrong, by place."""
    return {error.json_path: error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)}


def test_the_register_says_its_schema():
    assert TEXT.splitlines()[0] == "# yaml-language-server: $schema=register.schema.json"
    Draft202012Validator.check_schema(SCHEMA)


def test_the_register_has_the_form_of_its_schema():
    assert faults(DOCUMENT) == {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"controler": "tenant"}, "'controler' was unexpected"),
        ({"purpose": ""}, "should be non-empty"),
        ({"source": "guessed"}, "'guessed' is not one of"),
        ({"retention": {"period": "1 week", "ground": "g"}}, "'1 week' does not match"),
        ({"retention": {"until": "u", "period": "1 day", "after": "due_at", "ground": "g"}}, "is not valid under any"),
        ({"columns": {"id": "secret export"}}, "'secret export' does not match"),
        ({"references": {"a": "with_parent tenant_id -> app.organizations"}}, "does not match"),
        ({"subjects": [{"column": "created_by", "erase": "keep"}]}, "'role' is a required property"),
    ],
)
def test_the_schema_refuses(change, named):
    wrong = copy.deepcopy(DOCUMENT)
    wrong["tables"]["app.tasks"] = TASKS | change

    found = faults(wrong)
    assert [place for place in found if not place.startswith("$.tables['app.tasks']")] == []
    assert any(named in message for message in found.values()), found


def without_a_basis(known):
    """Tables about people whose legal basis names no ground of Art. 6(1), nor Art. 28 for an organization."""
    return [
        table.name
        for table in known.tables.values()
        if table.people and not table.grounds and not (table.of_tenant and "Art. 28" in table.legal_basis)
    ]


def without_a_ground_to_stay(known):
    """Tables of which an erasure leaves rows about people, without the article that allows it."""
    return [
        table.name
        for table in known.tables.values()
        if any(subject.erase in ("keep", "pseudonym") for subject in table.subjects)
        and not STAYS.search(table.retention.ground)
    ]


def test_what_is_about_people_has_a_legal_basis():
    assert without_a_basis(register()) == []
    assert without_a_basis(changed("identity.devices", "legal_basis", "because we can")) == ["identity.devices"]


def test_a_legitimate_interest_is_named():
    claims = [each for each in (*register().tables.values(), *register().places.values()) if "(f)" in each.legal_basis]

    assert len(claims) > 5
    assert [each.name for each in claims if not INTEREST.search(each.legal_basis)] == []


def test_what_an_erasure_leaves_has_the_article_that_allows_it():
    assert without_a_ground_to_stay(register()) == []
    retention = {"period": "90 days", "after": "at", "ground": "we like it"}
    assert without_a_ground_to_stay(changed("app.audit_events", "retention", retention)) == ["app.audit_events"]


def changed(table, key, value):
    """The register with one value of a table changed."""
    wrong = copy.deepcopy(DOCUMENT)
    wrong["tables"][table][key] = value
    return parse(yaml.safe_dump(wrong))


def test_no_word_of_the_register_is_idle():
    known = register()
    holders = [*known.tables.values(), *known.places.values()]

    assert set(known.people) == {name for each in holders for name in each.people}
    assert set(known.data) == {name for each in holders for name in each.data}
    assert set(known.parties) == {name for each in holders for name in each.recipients}
    assert set(known.activities) == {each.activity.name for each in holders}


def test_a_recipient_outside_the_union_has_a_safeguard():
    outside = [each for each in register().parties.values() if each.kind == "processor" and "Union" not in each.place]

    assert outside
    assert [each.name for each in outside if not each.transfer] == []


def test_what_proves_a_measure_exists():
    assert [each.proof for each in register().measures if not (CHECKOUT / each.proof).exists()] == []

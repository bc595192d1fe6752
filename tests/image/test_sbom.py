"""The bill of materials: valid CycloneDX, complete, with licences, the same each time."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.image.test_tree import installed
from tools.image.sbom import sbom
from tools.image.tree import Image

COPYLEFT = ("GPL", "AGPL", "SSPL", "BUSL")  # MPL is by file, and nothing of it is changed here


@pytest.fixture(scope="module")
def text(made: Image) -> str:
    return sbom(made)


def test_it_is_valid(text: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_validator_refuses(text: str) -> None:
    """What the test above rests on."""
    broken = json.loads(text)
    broken["components"][0]["typo"] = 1
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None


def test_it_lists_what_is_in_the_tree(made: Image, text: str) -> None:
    bill = json.loads(text)
    assert {each["name"]: each["version"] for each in bill["components"]} == installed(made)
    assert all(each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}" for each in bill["components"])


def test_every_licence_is_declared_and_none_binds_us(text: str) -> None:
    for each in json.loads(text)["components"]:
        said = json.dumps(each.get("licenses", []))
        assert each.get("licenses"), each["name"]
        if "Lesser" not in said and "LGPL" not in said:
            assert not [word for word in COPYLEFT if word in said], each["name"]


def test_it_says_who_needs_whom(text: str) -> None:
    needs = {each["ref"].split("@")[0]: each.get("dependsOn", []) for each in json.loads(text)["dependencies"]}
    assert any(name.startswith("pkg:pypi/scramp@") for name in needs["pkg:pypi/pg8000"])
    assert len(needs["dev-context"]) == len(needs) - 1


def test_it_is_the_same_each_time(made: Image, text: str) -> None:
    assert sbom(made) == text
    assert "timestamp" not in text

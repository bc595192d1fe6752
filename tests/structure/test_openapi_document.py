"""The OpenAPI document that is served is the one that the route tables give."""

from openapi_spec_validator import validate

from local.openapi import TARGET, document


def test_it_is_current() -> None:
    assert TARGET.read_text() == document(), "run: python -m local.openapi"


def test_it_is_valid() -> None:
    import json

    validate(json.loads(TARGET.read_text()))

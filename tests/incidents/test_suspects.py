"""What makes a crowd: successes for which somebody has proved who they are."""

import importlib
import re

import pytest
import yaml

from common import access
from functions.incidents import suspects
from functions.incidents.armor import Slot
from tests.conftest import CHECKOUT

# Public as routes, but a password, a code, or a secret of a mail or a cookie goes with the request.
PROVED = {
    *("/v1/auth/login", "/v1/auth/refresh", "/v1/auth/email/verify", "/v1/auth/password/reset"),
    *("/v1/auth/mfa/challenge", "/v1/auth/mfa/verify", "/v1/auth/oidc/<provider>/callback", "/v1/invitations/accept"),
    *("/v1/deletions/<uuid:deletion_id>/status", "/v1/deletions/<uuid:deletion_id>/certificate"),
    "/v1/deletions/<uuid:deletion_id>/acknowledgements",
}


def routes():
    """Of all services."""
    catalog = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())["services"]
    for entry in catalog.values():
        yield from importlib.import_module(f"functions.{entry['folder']}.main").routes.routes


def paths(*, public):
    """Those of public routes, or of the others."""
    return [route.path for route in routes() if (route.needs == access.PUBLIC) == public]


def is_open(path):
    return not path.startswith(suspects.PROOFS) or re.match(suspects.OPEN, path) is not None


def test_what_is_open_to_everybody_makes_no_crowd():
    assert sorted({path for path in paths(public=True) if not is_open(path)}) == sorted(PROVED)


def test_what_needs_somebody_does():
    behind = {path for path in paths(public=False) if path.startswith(suspects.PROOFS)}
    assert len(behind) > 50
    assert [path for path in behind if is_open(path)] == []


def test_whoever_can_guess_is_looked_for_where_he_guesses():
    """Wherever an answer tells whether a password or a code was right. What a provider answers stands in no log."""
    alert = yaml.safe_load((CHECKOUT / "functions" / "incidents" / "alerts.yaml").read_text())["failed_log_ins"]
    guesses = set(alert["codes"]) - {"account_locked"}
    guessed = {route.path for route in routes() if guesses & set(route.errors)}
    assert {path for path in guessed if not re.match(alert["requests"]["paths"], path)} == {
        "/v1/auth/oidc/<provider>/callback",
        *("/v1/auth/step-up", "/v1/auth/password/change", "/v1/auth/mfa/factors/<uuid:factor_id>/confirm"),  # a token
    }


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.example.com/v1/auth/login", "/v1/auth/login"),
        ("https://api.example.com//v1/%61uth/./login/?x=%2f#y", "/v1/auth/login"),
        ("https://api.example.com/v1%5cauth%2Flogin", "/v1/auth/login"),
        ("https://api.example.com/v1/projects/%2e%2e/auth/login", "/v1/auth/login"),
        ("https://api.example.com/v1/a%0Ab?c\nd", "/v1/a\nb"),
    ],
)
def test_an_address_is_read_as_the_service_reads_it(url, path):
    assert suspects.asked_for(url) == path


@pytest.mark.parametrize("until", ["2026-11-31T18:00Z", "2026-11-23T25:61Z", "tomorrow"])
def test_a_slip_in_a_description_stops_nobody(until):
    """It ends as a block of ours would."""
    assert Slot(frozenset(), f"Incident 4711, until {until}").until is None
    assert Slot(frozenset(), "Incident 4711, until 2026-11-23T18:00Z").until is not None

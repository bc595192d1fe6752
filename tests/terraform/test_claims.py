"""Each claim of the two security guides about the infrastructure has its test: claims.yaml.

Here stand those that no other file is about, since they go across all resources.
"""

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.settings import Settings
from tests.terraform.plans import Plan, plan
from tools.terraform.check import CHECKOUT

CLAIMS: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "claims.yaml").read_text())
UNION = (
    *("europe-west1", "europe-west3", "europe-west4", "europe-west8", "europe-west9"),
    *("europe-north1", "europe-southwest1", "europe-central2"),
)  # London and Zurich are outside
PLACES = ("location", "region", "replica_zone", "zone")
NO_PLACE = {"global", "GLOBAL"}


@cache
def names_in(file: str) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse((CHECKOUT / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_has_its_test(claim: str) -> None:
    for named in CLAIMS[claim]:
        file, _, name = named.partition("::")
        assert (CHECKOUT / "tests" / file).exists()
        assert not name or name in names_in(file)


@pytest.fixture(scope="module", params=["staging", "production", "foundation"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def everything(planned: Plan) -> dict[str, dict[str, Any]]:
    return {address: planned.resource(address) for address in planned.addresses}


def test_everything_stands_in_the_european_union(planned: Plan) -> None:
    told = 0
    for address, values in everything(planned).items():
        for place in PLACES:
            where = values.get(place)
            if isinstance(where, str) and "/" not in where and where not in NO_PLACE:
                assert where.lower().startswith(UNION), address
                told += 1
    assert told > 20
    for address, values in planned.resources("google_secret_manager_secret").items():
        copies = values["replication"][0]["user_managed"][0]["replicas"]
        assert copies, address
        assert all(copy["location"].startswith(UNION) for copy in copies), address


def test_no_key_of_an_account_exists(planned: Plan) -> None:
    kinds = {address.split(".")[0] for address in planned.addresses}
    assert not kinds & {"google_service_account_key", "google_storage_hmac_key", "google_apikeys_key"}
    assert not [kind for kind in kinds if kind.startswith(("random_", "tls_"))], (
        "what is random would stand in the state"
    )


def test_no_machine_of_our_own_and_no_address_but_the_edge_and_the_way_out(planned: Plan) -> None:
    kinds = {address.split(".")[0] for address in planned.addresses}
    assert not [kind for kind in kinds if re.match(r"google_compute_(instance|region_instance|.*disk)", kind)]
    outside = [
        address
        for kind in ("google_compute_address", "google_compute_global_address")
        for address, values in planned.resources(kind).items()
        if values.get("address_type", "EXTERNAL") == "EXTERNAL"
    ]
    assert len([address for address in outside if address.startswith("google_compute_address.")]) == 1
    assert len(outside) <= 3, outside


def test_everything_that_bears_labels_says_whose_it_is(planned: Plan) -> None:
    """By the providers' default labels, which apply to every resource that has any."""
    configured = planned.json["configuration"]["provider_config"]
    for provider in ("google", "google-beta"):
        assert configured[provider]["expressions"]["default_labels"]["references"] == ["local.labels"]


def test_nothing_that_google_offers_is_kept_unprotected(planned: Plan) -> None:
    """Where a resource knows deletion_protection, it is on."""
    protected = {
        address: values["deletion_protection"]
        for address, values in everything(planned).items()
        if "deletion_protection" in values
    }
    assert len(protected) > 10
    assert [address for address, on in protected.items() if on is not True] == []


def test_lifetimes_and_limits_of_the_guides() -> None:
    """They are the product's defaults, and no environment changes them."""
    guide = {
        "access_token_seconds": 3600,
        "refresh_token_seconds": 604_800,
        "signed_url_seconds": 3600,
        "rate_anonymous": "100/hour",
        "rate_user": "1000/hour",
        "rate_organization": "10000/minute",
    }
    assert {field.name: field.default for field in fields(Settings) if field.name in guide} == guide
    for environment in ("staging", "production"):
        for values in plan(environment).resources("google_cloud_run_v2_service").values():
            (container,) = values["template"][0]["containers"]
            assert not {name.upper() for name in guide} & {each["name"] for each in container["env"]}


def test_incidents_are_told_where_the_guide_says() -> None:
    assert plan("production").variables["slack_channel"] == "#security-incidents"


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_tokens_are_signed_asymmetrically(environment: str) -> None:
    """RS256: whoever verifies a token cannot make one."""
    services = plan(environment).resources("google_cloud_run_v2_service")
    for address in ('google_cloud_run_v2_service.main["auth"]', 'google_cloud_run_v2_service.main["keys"]'):
        (container,) = services[address]["template"][0]["containers"]
        assert {each["name"]: each["value"] for each in container["env"]}["JWT_ALGORITHM"] == "RS256"


def test_the_catalog_gives_the_signing_key_to_auth_alone() -> None:
    catalog = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())
    assert [name for name, service in catalog["services"].items() if "jwt-keyring" in service["secrets"]] == ["auth"]

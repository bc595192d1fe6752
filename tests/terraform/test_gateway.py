"""API Gateway in Terraform: our own document, with the addresses of this environment's services."""

import json
import re
from base64 import b64decode
from typing import Any

import pytest
from openapi_spec_validator import validate

from local.gateway import template_document
from local.layout import catalog
from local.openapi.files import GATEWAY, gateway_document
from tests.terraform.plans import Plan, plan
from tools.release.gateway import OURS
from tools.terraform.plan import CHECKOUT


@pytest.fixture(params=["production", "staging"])
def deployed(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def document(planned: Plan) -> dict[str, Any]:
    config = planned.resource('google_api_gateway_api_config.main["main"]')
    contents = config["openapi_documents"][0]["document"][0]["contents"]
    found: dict[str, Any] = json.loads(b64decode(contents))
    return found


def test_the_file_is_what_the_route_tables_say() -> None:
    assert GATEWAY.read_text() == gateway_document(), "run: python -m local.openapi"


def test_it_is_that_document_and_nothing_is_left_to_fill_in(deployed: Plan) -> None:
    ours, template = document(deployed), template_document()
    validate(ours)  # type: ignore[arg-type]
    assert ours["paths"] == template["paths"]
    assert "${" not in json.dumps(ours)


def test_a_backend_is_a_service_at_its_own_address_and_audience(deployed: Plan) -> None:
    """An identity token for one service is good for no other."""
    backends = document(deployed)["x-google-api-management"]["backends"]
    public = {name for name, entry in catalog().items() if entry["paths"]}
    assert set(backends) == public | {"unknown"}
    for name in public:
        url = backends[name]["jwtAudience"]
        assert backends[name]["address"] == url
        assert url.startswith(f"https://{name}-")
        assert url.endswith(f".{deployed.variables['region']}.run.app")
    assert backends["unknown"]["address"] == backends["auth"]["address"] + "/not-found"
    assert backends["unknown"]["pathTranslation"] == "CONSTANT_ADDRESS"


def test_it_calls_as_its_own_account(deployed: Plan) -> None:
    config = deployed.resource('google_api_gateway_api_config.main["main"]')
    account = deployed.resource('google_service_account.main["gateway"]')
    assert config["gateway_config"][0]["backend_config"][0]["google_service_account"] == account["id"]


def test_the_gateway_serves_this_config_in_this_region(deployed: Plan) -> None:
    gateway = deployed.resource('google_api_gateway_gateway.main["main"]')
    config = deployed.resource('google_api_gateway_api_config.main["main"]')
    group = deployed.resource('google_compute_region_network_endpoint_group.gateway["main"]')
    assert (gateway["api_config"], gateway["region"]) == (config["id"], deployed.variables["region"])
    assert group["serverless_deployment"][0] | {"version": None, "url_mask": None} == {
        "platform": "apigateway.googleapis.com",
        "resource": gateway["gateway_id"],
        "version": None,
        "url_mask": None,
    }


def test_functions_come_before_the_gateway(deployed: Plan) -> None:
    configured = deployed.json["configuration"]["root_module"]["resources"]
    config = next(each for each in configured if each["address"] == "google_api_gateway_api_config.main")
    assert "google_cloud_run_v2_service.main" in config["depends_on"]


def test_the_release_makes_every_document_but_the_first(deployed: Plan) -> None:
    """Terraform would lead the gateway back to its own at the next apply."""
    text = (CHECKOUT / "terraform" / "api_gateway.tf").read_text()
    ignored = re.findall(r"ignore_changes = \[([^]]*)\]", text)
    assert ignored == ["openapi_documents", "api_config, labels"]
    first = deployed.resource('google_api_gateway_api_config.main["main"]')
    assert not first["api_config_id_prefix"].startswith(OURS), "or the release would tidy Terraform's away"

"""The load balancer: TLS, names, headers, where it leads, and the door that can be closed."""

from typing import Any

import pytest
import yaml

from common.answers import HEADERS
from local.layout import catalog, workloads
from tests.conftest import CHECKOUT
from tests.terraform.plans import Plan, plan
from tests.terraform.test_armor import past_the_gateway

TRUSTED = ("X-Client-Ip", "X-Edge-Key", "X-Forwarded-Authorization")


@pytest.fixture(params=["production", "staging", "foundation"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


@pytest.fixture(params=["production", "staging"])
def deployed(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def matcher(planned: Plan) -> dict[str, Any]:
    found: dict[str, Any] = planned.resource("google_compute_url_map.main")["path_matcher"][0]
    return found


def leads(planned: Plan) -> dict[str, str]:
    """Path → the backend service that the URL map leads it to."""
    return {path: rule["service"] for rule in matcher(planned)["path_rule"] for path in rule["paths"]}


def backends(planned: Plan) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in planned.resources("google_compute_backend_service").values()}


# TLS


def test_tls_1_3_and_nothing_older(planned: Plan) -> None:
    policy = planned.resource("google_compute_ssl_policy.main")
    assert (policy["profile"], policy["min_tls_version"]) == ("RESTRICTED", "TLS_1_3")
    proxies = planned.resources("google_compute_target_https_proxy").values()
    assert [proxy["ssl_policy"] for proxy in proxies] == [policy["id"]]
    assert [proxy["tls_early_data"] for proxy in proxies] == ["DISABLED"]


def test_the_certificate_is_googles_and_renews_itself(planned: Plan) -> None:
    certificate = planned.resource("google_certificate_manager_certificate.main")
    authorization = planned.resource("google_certificate_manager_dns_authorization.main")
    entry = planned.resource("google_certificate_manager_certificate_map_entry.main")
    proxy = planned.resource("google_compute_target_https_proxy.main")
    domain = planned.variables["domain"]
    assert certificate["managed"][0]["domains"] == [domain] == [authorization["domain"]]
    assert certificate["managed"][0]["dns_authorizations"] == [authorization["id"]]
    assert (entry["hostname"], entry["certificates"]) == (domain, [certificate["id"]])
    made = planned.resource("google_certificate_manager_certificate_map.main")
    assert proxy["certificate_map"] == f"//certificatemanager.googleapis.com/{made['id']}"
    assert not proxy.get("ssl_certificates")


def test_plain_http_only_says_where_to_go(planned: Plan) -> None:
    ways = {each["port_range"]: each for each in planned.resources("google_compute_global_forwarding_rule").values()}
    assert set(ways) == {"80", "443"}
    assert {each["ip_address"] for each in ways.values()} == {
        planned.resource("google_compute_global_address.edge")["id"]
    }
    assert {each["load_balancing_scheme"] for each in ways.values()} == {"EXTERNAL_MANAGED"}
    assert ways["443"]["target"] == planned.resource("google_compute_target_https_proxy.main")["id"]
    plain = planned.resource("google_compute_target_http_proxy.redirect")
    assert ways["80"]["target"] == plain["id"]
    redirect = planned.resource("google_compute_url_map.redirect")
    assert plain["url_map"] == redirect["id"]
    assert redirect["default_url_redirect"][0]["https_redirect"] is True
    assert not redirect.get("default_service")
    assert not redirect["path_matcher"]


# Headers


def test_hsts_on_every_answer(planned: Plan) -> None:
    """The load balancer says what functions say."""
    said = f"Strict-Transport-Security: {HEADERS['Strict-Transport-Security']}"
    assert {tuple(each["custom_response_headers"]) for each in backends(planned).values()} == {(said,)}


@pytest.mark.parametrize("way", ["gateway", "run"])
def test_every_request_carries_the_address_and_the_edge_key(way: str) -> None:
    planned = plan("production") if way == "gateway" else past_the_gateway()
    for each in backends(planned).values():
        assert len(each["custom_request_headers"]) == 2
        assert "X-Client-Ip: {client_ip_address}" in each["custom_request_headers"]
    for name in ("api", "run", "sessions"):
        where = f"google_compute_backend_service.{name}"
        assert "local.request_headers" in planned.references(where, "custom_request_headers")


def test_the_edge_key_is_read_from_its_secret(deployed: Plan) -> None:
    assert 'google_secret_manager_secret.main["edge-key"].id' in deployed.references(
        "data.google_secret_manager_secret_version.edge_key"
    )


def test_no_other_spelling_of_a_trusted_header_arrives(planned: Plan) -> None:
    """WSGI reads an underscore as a hyphen."""
    removed = planned.resource("google_compute_url_map.main")["header_action"][0]["request_headers_to_remove"]
    for name in TRUSTED:
        spelt = {name[:number] + "_" + name[number + 1 :] for number, sign in enumerate(name) if sign == "-"}
        assert spelt | {name.replace("-", "_")} <= set(removed)
    assert {"X-Forwarded-Authorization", "X-Serverless-Authorization"} <= set(removed)
    assert not {"X-Client-Ip", "X-Edge-Key", "Authorization"} & set(removed)


# Where it leads


def test_through_the_gateway_all_but_the_sessions(deployed: Plan) -> None:
    gateway = deployed.resource('google_compute_region_network_endpoint_group.gateway["main"]')
    assert matcher(deployed)["default_service"] == backends(deployed)["api"]["id"]
    assert [each["group"] for each in backends(deployed)["api"]["backend"]] == [gateway["id"]]
    assert set(leads(deployed).values()) == {backends(deployed)["sessions"]["id"]}
    assert set(backends(deployed)) == {"api", "sessions"}
    main = deployed.resource("google_compute_url_map.main")
    assert [rule["hosts"] for rule in main["host_rule"]] == [["*"]]


def test_every_request_is_logged(planned: Plan) -> None:
    for each in backends(planned).values():
        assert (each["log_config"][0]["enable"], each["log_config"][0]["sample_rate"]) == (True, 1)


def test_before_the_first_image_it_leads_nowhere() -> None:
    planned = plan("foundation")
    assert backends(planned)["api"]["backend"] == []
    assert not planned.resources("google_compute_region_network_endpoint_group")
    assert not planned.resources("google_api_gateway_gateway")
    assert not planned.resources("google_monitoring_uptime_check_config")


def test_the_session_api_is_what_its_page_says(deployed: Plan) -> None:
    """docs/sessions-on-gke.md, "What Terraform must provide"."""
    sessions = backends(deployed)["sessions"]
    groups = [each["id"] for each in deployed.data("google_compute_network_endpoint_group").values()]
    zones = {each["zone"] for each in deployed.data("google_compute_network_endpoint_group").values()}
    names = {each["name"] for each in deployed.data("google_compute_network_endpoint_group").values()}
    assert zones == set(deployed.variables["session_endpoint_zones"])
    assert len(zones) >= 2
    service = yaml.safe_load((CHECKOUT / "sessions/k8s/base/service.yaml").read_text())
    assert {f'"{name}"' in service["metadata"]["annotations"]["cloud.google.com/neg"] for name in names} == {True}
    assert {each["group"] for each in sessions["backend"]} <= set(groups)
    assert {each["balancing_mode"] for each in sessions["backend"]} == {"RATE"}
    assert (sessions["load_balancing_scheme"], sessions["protocol"]) == ("EXTERNAL_MANAGED", "HTTP")
    assert (sessions["timeout_sec"], sessions["connection_draining_timeout_sec"]) == (3600, 120)
    assert (sessions["locality_lb_policy"], sessions["session_affinity"]) == ("LEAST_REQUEST", "NONE")
    assert sessions["enable_cdn"] is False
    assert leads(deployed) == {
        end: sessions["id"] for path in workloads()["sessions"]["paths"] for end in (path, path + "/*")
    }


def test_the_health_check_of_the_sessions(deployed: Plan) -> None:
    check = deployed.resource("google_compute_health_check.sessions")
    assert backends(deployed)["sessions"]["health_checks"] == [check["id"]]
    assert (check["check_interval_sec"], check["timeout_sec"]) == (5, 5)
    assert (check["unhealthy_threshold"], check["healthy_threshold"]) == (2, 1)
    assert check["http_health_check"][0]["port"] == 8080
    assert check["http_health_check"][0]["request_path"] == "/health/serving"


# Past the gateway: docs/decisions/0025


def test_past_the_gateway_every_path_leads_to_its_service() -> None:
    planned = past_the_gateway()
    wanted = {
        end: backends(planned)[f"run-{name}"]["id"]
        for name, entry in catalog().items()
        for path in entry["paths"]
        for end in (path, path + "/*")
    }
    sessions = backends(planned)["sessions"]["id"]
    assert {path: to for path, to in leads(planned).items() if to != sessions} == wanted
    assert not planned.resources("google_api_gateway_gateway")


def test_past_the_gateway_no_path_leads_to_an_internal_route() -> None:
    planned = past_the_gateway()
    action = matcher(planned)["default_route_action"][0]
    assert action["url_rewrite"][0]["path_prefix_rewrite"] == "/not-found/"
    assert matcher(planned)["default_service"] == backends(planned)["run-auth"]["id"]
    assert not any(path.startswith(("/internal", "/*")) for path in leads(planned))
    reached = {group["cloud_run"][0]["service"] for group in groups_of_run(planned)}
    assert reached == {name for name, entry in catalog().items() if entry["paths"]}


def groups_of_run(planned: Plan) -> list[dict[str, Any]]:
    return list(planned.resources("google_compute_region_network_endpoint_group").values())


# Maintenance


def test_in_maintenance_nothing_is_passed_on() -> None:
    planned = plan("production", maintenance=True, edge="run")
    (action,) = matcher(planned)["default_route_action"]
    abort = action["fault_injection_policy"][0]["abort"][0]
    assert (abort["http_status"], abort["percentage"]) == (503, 100)
    assert matcher(planned)["path_rule"] == []


def test_maintenance_is_off_unless_somebody_says_so(planned: Plan) -> None:
    assert matcher(planned)["default_route_action"] == []


# Uptime


def test_somebody_outside_asks_for_health(deployed: Plan) -> None:
    checks = deployed.resources("google_monitoring_uptime_check_config").values()
    asked = {
        check["http_check"][0]["path"]: (
            check["content_matchers"][0]["content"],
            check["content_matchers"][0]["json_path_matcher"][0]["json_path"],
        )
        for check in checks
    }
    assert asked == {"/health/": ('"ok"', "$.status"), "/health/ready": ('"ready"', "$.status")}
    for check in checks:
        http = check["http_check"][0]
        assert (http["use_ssl"], http["validate_ssl"], http["port"]) == (True, True, 443)
        assert check["monitored_resource"][0]["labels"]["host"] == deployed.variables["domain"]
        assert len(check["selected_regions"]) >= 3

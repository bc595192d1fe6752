"""The network: three tiers, one way out, and a firewall that is closed both ways."""

from ipaddress import IPv4Network
from typing import Any

import pytest
import yaml

from tests.conftest import CHECKOUT
from tests.terraform.plans import Plan, plan

ANYWHERE = ["0.0.0.0/0"]
PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")
GOOGLE_APIS = "199.36.153.8/30"


@pytest.fixture(params=["production", "staging", "foundation"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def subnet(planned: Plan, name: str) -> dict[str, Any]:
    return planned.resource(f"google_compute_subnetwork.{name}")


def sql_range(planned: Plan) -> IPv4Network:
    allocated = planned.resource("google_compute_global_address.database")
    return IPv4Network(f"{allocated['address']}/{allocated['prefix_length']}")


def test_the_network_has_no_subnets_but_ours(planned: Plan) -> None:
    network = planned.resource("google_compute_network.main")
    assert network["auto_create_subnetworks"] is False
    assert {each["name"] for each in planned.resources("google_compute_subnetwork").values()} == {
        "public",
        "private",
        "database",
    }
    assert {each["network"] for each in planned.resources("google_compute_subnetwork").values()} == {network["id"]}


@pytest.mark.parametrize("name", ["public", "private", "database"])
def test_every_subnet_logs_its_flows_and_reaches_google_privately(planned: Plan, name: str) -> None:
    values = subnet(planned, name)
    assert values["private_ip_google_access"] is True
    assert values["log_config"][0]["flow_sampling"] > 0
    assert values["log_config"][0]["metadata"] == "INCLUDE_ALL_METADATA"


def test_no_two_ranges_overlap(planned: Plan) -> None:
    ranges = [IPv4Network(each["ip_cidr_range"]) for each in planned.resources("google_compute_subnetwork").values()]
    ranges += [IPv4Network(each["ip_cidr_range"]) for each in subnet(planned, "private")["secondary_ip_range"]]
    ranges.append(sql_range(planned))
    assert len(ranges) == 6
    assert [(a, b) for a in ranges for b in ranges if a is not b and a.overlaps(b)] == []


def test_the_data_block_is_what_the_pods_may_reach(planned: Plan) -> None:
    """The address ranges of Terraform and of the NetworkPolicy are one and the same."""
    documents = yaml.safe_load_all((CHECKOUT / "sessions/k8s/base/network.yaml").read_text())
    policy = next(each for each in documents if each["metadata"]["name"] == "sessions")
    rule = next(each for each in policy["spec"]["egress"] if {"protocol": "TCP", "port": 3307} in each["ports"])
    block = IPv4Network(rule["to"][0]["ipBlock"]["cidr"])
    assert sql_range(planned).subnet_of(block)
    assert IPv4Network(subnet(planned, "database")["ip_cidr_range"]).subnet_of(block)
    allowed = planned.resource("google_compute_firewall.allow_data")
    assert allowed["destination_ranges"] == [str(block)]
    assert set(allowed["allow"][0]["ports"]) == {str(port["port"]) for port in rule["ports"]}


def test_the_database_subnet_is_isolated(planned: Plan) -> None:
    """No way out of it, and nobody but Google's services gets an address there."""
    nat = planned.resource("google_compute_router_nat.main")
    assert [each["name"] for each in nat["subnetwork"]] == [subnet(planned, "private")["id"]]
    assert nat["source_subnetwork_ip_ranges_to_nat"] == "LIST_OF_SUBNETWORKS"
    opened = [rule for rule in rules(planned, "INGRESS").values() if rule["allow"]]
    for rule in opened:
        tagged = bool(rule.get("target_tags"))
        places = [IPv4Network(each) for each in rule.get("destination_ranges") or []]
        assert tagged or (places and not any(each.overlaps(IPv4Network("10.10.32.0/20")) for each in places))


def test_cloud_sql_and_valkey_have_private_addresses_alone(planned: Plan) -> None:
    connection = planned.resource("google_service_networking_connection.database")
    reserved = planned.resource("google_compute_global_address.database")
    assert connection["service"] == "servicenetworking.googleapis.com"
    assert connection["reserved_peering_ranges"] == [reserved["name"]]
    assert (reserved["purpose"], reserved["address_type"]) == ("VPC_PEERING", "INTERNAL")
    policy = planned.resource("google_network_connectivity_service_connection_policy.cache")
    assert policy["service_class"] == "gcp-memorystore"
    assert policy["psc_config"][0]["subnetworks"] == [subnet(planned, "database")["id"]]


def test_the_way_out_has_one_address_that_stays(planned: Plan) -> None:
    nat = planned.resource("google_compute_router_nat.main")
    address = planned.resource("google_compute_address.nat")
    assert (nat["nat_ip_allocate_option"], nat["nat_ips"]) == ("MANUAL_ONLY", [address["self_link"]])
    assert address["address_type"] == "EXTERNAL"
    assert nat["log_config"][0]["enable"] is True


# The firewall


def rules(planned: Plan, direction: str) -> dict[str, Any]:
    every = planned.resources("google_compute_firewall")
    return {values["name"]: values for values in every.values() if values["direction"] == direction}


def opens(rule: dict[str, Any]) -> set[tuple[str, str]]:
    return {(each["protocol"], port) for each in rule["allow"] for port in each.get("ports") or ["all"]}


def test_443_is_allowed_and_all_else_denied(planned: Plan) -> None:
    """The seed's two rules, and one more for what Google's own load balancer sends to the pods."""
    found = rules(planned, "INGRESS")
    assert set(found) == {"allow-https", "allow-load-balancer", "deny-all-inbound"}
    https = found["allow-https"]
    assert (https["source_ranges"], opens(https)) == (ANYWHERE, {("tcp", "443")})
    assert https["target_tags"] == ["https-server"]
    deny = found["deny-all-inbound"]
    assert (deny["source_ranges"], deny["deny"][0]["protocol"], deny["allow"]) == (ANYWHERE, "all", [])
    assert not deny.get("target_tags")
    assert not deny.get("destination_ranges")
    assert deny["priority"] > max(rule["priority"] for name, rule in found.items() if name != "deny-all-inbound")


def test_only_googles_proxies_reach_the_pods(planned: Plan) -> None:
    rule = rules(planned, "INGRESS")["allow-load-balancer"]
    pods = {each["range_name"]: each["ip_cidr_range"] for each in subnet(planned, "private")["secondary_ip_range"]}
    assert set(rule["source_ranges"]) == {"130.211.0.0/22", "35.191.0.0/16"}
    assert rule["destination_ranges"] == [pods["pods"]]
    assert opens(rule) == {("tcp", "8080")}


def test_what_is_not_opened_cannot_leave(planned: Plan) -> None:
    found = rules(planned, "EGRESS")
    last = found["deny-all-outbound"]
    assert (last["destination_ranges"], last["deny"][0]["protocol"]) == (ANYWHERE, "all")
    assert last["priority"] == max(rule["priority"] for rule in found.values())
    outside = found["allow-to-outside"]
    assert opens(outside) == {("tcp", "443"), ("tcp", "465"), ("tcp", "587")}
    inside = found["deny-to-private"]
    assert set(inside["destination_ranges"]) == set(PRIVATE)
    assert inside["priority"] < outside["priority"]
    earlier = [rule for rule in found.values() if rule["priority"] < inside["priority"]]
    assert {cidr for rule in earlier for cidr in rule["destination_ranges"]} == {
        "10.10.32.0/20",
        "10.10.0.0/20",
        "10.20.0.0/16",
        "10.30.0.0/20",
        GOOGLE_APIS,
    }


def test_refusals_are_logged(planned: Plan) -> None:
    for rule in planned.resources("google_compute_firewall").values():
        assert bool(rule["deny"]) <= bool(rule["log_config"]), rule["name"]


def test_googles_apis_have_the_addresses_that_the_firewall_opens(planned: Plan) -> None:
    records = planned.resources("google_dns_record_set").values()
    zones = {each["dns_name"] for each in planned.resources("google_dns_managed_zone").values()}
    assert {"googleapis.com.", "pkg.dev.", "gcr.io."} <= zones
    for values in planned.resources("google_dns_managed_zone").values():
        assert values["visibility"] == "private"
    own = [each for each in records if each["type"] == "A" and not each["name"].startswith("valkey.")]
    for record in own:
        assert set(record["rrdatas"]) == {str(host) for host in IPv4Network(GOOGLE_APIS)}
    assert rules(planned, "EGRESS")["allow-to-google"]["destination_ranges"] == [GOOGLE_APIS]
    assert opens(rules(planned, "EGRESS")["allow-to-google"]) == {("tcp", "443")}


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_the_pods_find_the_cache_under_the_name_that_they_have(environment: str) -> None:
    name = plan(environment).resource("google_dns_record_set.valkey")["name"].removesuffix(".")
    settings = (CHECKOUT / f"sessions/k8s/{environment}/settings.properties").read_text()
    assert f"VALKEY_URL=rediss://{name}:6379" in settings.splitlines()

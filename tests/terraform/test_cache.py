"""Valkey: by IAM, over TLS with an authority of its own, kept nowhere, and found under the name that clients know."""

import pytest

from tests.terraform.plans import Plan, plan

MAIN = "google_memorystore_instance.main"


@pytest.fixture(params=["production", "staging"])
def planned(request: pytest.FixtureRequest) -> Plan:
    made: Plan = plan(request.param)
    return made


def test_log_in_by_iam_over_tls(planned: Plan) -> None:
    cache = planned.resource(MAIN)

    assert cache["authorization_mode"] == "IAM_AUTH"
    assert cache["transit_encryption_mode"] == "SERVER_AUTHENTICATION"


def test_its_authority_certifies_it_alone(planned: Plan) -> None:
    """Clients with VALKEY_CA compare no name: the region's shared authority would let strangers' instances in."""
    assert planned.resource(MAIN)["server_ca_mode"] == "GOOGLE_MANAGED_PER_INSTANCE_CA"
    version = planned.resource("google_secret_manager_secret_version.valkey_ca")
    assert version["secret"] == planned.resource('google_secret_manager_secret.main["valkey-ca"]')["id"]


def test_one_shard_as_the_scripts_want_it(planned: Plan) -> None:
    cache = planned.resource(MAIN)

    assert (cache["mode"], cache["shard_count"]) == ("CLUSTER_DISABLED", 1)
    assert cache["engine_version"].startswith("VALKEY_")
    assert cache["location"] == planned.variables["region"]


def test_what_ends_soonest_is_forgotten_first(planned: Plan) -> None:
    assert planned.resource(MAIN)["engine_configs"] == {"maxmemory-policy": "volatile-ttl"}


def test_nothing_of_it_is_kept(planned: Plan) -> None:
    cache = planned.resource(MAIN)

    assert cache["persistence_config"][0]["mode"] == "DISABLED"
    assert not cache.get("automated_backup_config")


def test_under_our_key_and_protected(planned: Plan) -> None:
    cache = planned.resource(MAIN)

    assert cache["kms_key"] == planned.resource('google_kms_crypto_key.main["cache"]')["id"]
    assert cache["deletion_protection_enabled"] is True


def test_its_endpoint_stands_in_our_network(planned: Plan) -> None:
    endpoint = planned.resource(MAIN)["desired_auto_created_endpoints"][0]

    assert endpoint["network"] == planned.resource("google_compute_network.main")["id"]
    assert endpoint["project_id"] == planned.variables["project"]


def test_production_survives_the_loss_of_a_zone() -> None:
    assert plan("production").resource(MAIN)["replica_count"] >= 1
    assert plan("production").resource(MAIN)["zone_distribution_config"][0]["mode"] == "MULTI_ZONE"

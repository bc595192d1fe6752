"""The cluster of the session API, the registry, and which images may run: what the security guides ask of them."""

import re
from typing import Any

import pytest
import yaml

from tests.conftest import CHECKOUT
from tests.terraform.plans import Plan, plan

MANIFESTS = CHECKOUT / "sessions" / "k8s"


@pytest.fixture(params=["production", "staging", "foundation"])
def planned(request: pytest.FixtureRequest) -> Plan:
    made: Plan = plan(request.param)
    return made


@pytest.fixture
def cluster(planned: Plan) -> dict[str, Any]:
    found: dict[str, Any] = planned.resource("google_container_cluster.main")
    return found


def test_autopilot_in_three_zones_of_the_region(planned: Plan, cluster: dict[str, Any]) -> None:
    assert cluster["enable_autopilot"] is True
    assert cluster["location"] == planned.variables["region"]
    assert cluster["deletion_protection"] is True


def test_nodes_have_no_public_address_and_stand_in_the_private_subnet(planned: Plan, cluster: dict[str, Any]) -> None:
    assert cluster["private_cluster_config"][0]["enable_private_nodes"] is True
    assert cluster["subnetwork"] == planned.resource("google_compute_subnetwork.private")["id"]
    ranges = planned.resource("google_compute_subnetwork.private")["secondary_ip_range"]
    given = cluster["ip_allocation_policy"][0]
    assert {given["cluster_secondary_range_name"], given["services_secondary_range_name"]} == {
        each["range_name"] for each in ranges
    }


def test_no_address_leads_to_the_control_plane(cluster: dict[str, Any]) -> None:
    endpoints = cluster["control_plane_endpoints_config"][0]
    assert endpoints["ip_endpoints_config"] == [{"enabled": False}]
    assert "master_authorized_networks_config" not in cluster or not cluster["master_authorized_networks_config"]
    assert cluster["master_auth"][0]["client_certificate_config"] == [{"issue_client_certificate": False}]
    assert set(cluster["rbac_binding_config"][0].values()) == {False}


def test_pods_have_accounts_of_their_own(planned: Plan, cluster: dict[str, Any]) -> None:
    assert cluster["workload_identity_config"] == [{"workload_pool": f"{planned.variables['project']}.svc.id.goog"}]
    (bound,) = [
        each
        for each in planned.resources("google_service_account_iam_member").values()
        if each["role"] == "roles/iam.workloadIdentityUser"
    ]
    assert bound["member"] == f"serviceAccount:{planned.variables['project']}.svc.id.goog[dev-context/sessions]"
    assert bound["service_account_id"] == planned.resource('google_service_account.main["sessions"]')["name"]


def test_secrets_and_disks_are_encrypted_by_our_key(planned: Plan, cluster: dict[str, Any]) -> None:
    key = planned.resource('google_kms_crypto_key.main["cluster"]')["id"]
    assert cluster["database_encryption"] == [{"state": "ENCRYPTED", "key_name": key}]
    nodes = cluster["cluster_autoscaling"][0]["auto_provisioning_defaults"][0]
    assert nodes["boot_disk_kms_key"] == key
    disks = planned.resource("google_kms_crypto_key_iam_member.disks")
    assert (disks["crypto_key_id"], disks["role"]) == (key, "roles/cloudkms.cryptoKeyEncrypterDecrypter")
    assert re.fullmatch(r"serviceAccount:service-\d+@compute-system\.iam\.gserviceaccount\.com", disks["member"])


def test_nodes_do_what_nodes_must_and_no_more(planned: Plan, cluster: dict[str, Any]) -> None:
    account = planned.resource("google_service_account.nodes")
    nodes = cluster["cluster_autoscaling"][0]["auto_provisioning_defaults"][0]
    assert nodes["service_account"] == account["email"]
    held = [
        (address.split(".")[0], each["role"])
        for kind in ("google_project_iam_member", "google_artifact_registry_repository_iam_member")
        for address, each in planned.resources(kind).items()
        if each["member"] == account["member"]
    ]
    assert sorted(held) == [
        ("google_artifact_registry_repository_iam_member", "roles/artifactregistry.reader"),
        ("google_project_iam_member", "roles/container.defaultNodeServiceAccount"),
    ]


def test_only_attested_images_run(planned: Plan, cluster: dict[str, Any]) -> None:
    assert cluster["binary_authorization"][0]["evaluation_mode"] == "PROJECT_SINGLETON_POLICY_ENFORCE"
    policy = planned.resource("google_binary_authorization_policy.main")
    (rule,) = policy["default_admission_rule"]
    assert rule["evaluation_mode"] == "REQUIRE_ATTESTATION"
    assert rule["enforcement_mode"] == "ENFORCED_BLOCK_AND_AUDIT_LOG"
    attestor = planned.resource("google_binary_authorization_attestor.built")
    assert rule["require_attestations_by"] == [attestor["name"]]
    patterns = [each["name_pattern"] for each in policy["admission_whitelist_patterns"]]
    assert patterns
    assert all("@sha256:" in pattern for pattern in patterns)
    for kind in ("google_cloud_run_v2_service", "google_cloud_run_v2_job"):
        for each in planned.resources(kind).values():
            assert each["binary_authorization"][0]["use_default"] is True


def test_the_key_that_attests_never_leaves_its_hardware(planned: Plan) -> None:
    key = planned.resource("google_kms_crypto_key.attestor")
    assert key["purpose"] == "ASYMMETRIC_SIGN"
    assert key["version_template"][0]["protection_level"] == "HSM"


def test_an_image_is_scanned_and_its_tag_never_moves(planned: Plan) -> None:
    registry = planned.resource("google_artifact_registry_repository.main")
    assert registry["docker_config"] == [{"immutable_tags": True}]
    assert registry["vulnerability_scanning_config"][0]["enablement_config"] == "INHERITED"
    assert 'google_project_service.main["containerscanning"]' in planned.addresses
    assert registry["kms_key_name"] == planned.resource('google_kms_crypto_key.main["registry"]')["id"]
    kept = {each["action"]: each for each in registry["cleanup_policies"]}
    assert kept["KEEP"]["most_recent_versions"][0]["keep_count"] >= 2


def test_upgrades_come_at_night_by_themselves(cluster: dict[str, Any]) -> None:
    assert cluster["release_channel"] == [{"channel": "REGULAR"}]
    assert cluster["maintenance_policy"][0]["recurring_window"][0]["recurrence"] == "FREQ=WEEKLY;BYDAY=SA,SU"


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_the_manifests_name_the_account_and_the_repository_of_the_plan(environment: str) -> None:
    planned = plan(environment)
    project, region = planned.variables["project"], planned.variables["region"]
    overlay = yaml.safe_load((MANIFESTS / environment / "kustomization.yaml").read_text())
    assert overlay["images"][0]["newName"].startswith(f"{region}-docker.pkg.dev/{project}/dev-context/")
    patched = yaml.safe_load(overlay["patches"][0]["patch"])[0]["value"]
    assert patched == planned.resource('google_service_account.main["sessions"]')["email"]
    settings = (MANIFESTS / environment / "settings.properties").read_text().splitlines()
    instance = f"{project}:{region}:{planned.resource('google_sql_database_instance.main')['name']}"
    login = planned.resource('google_sql_user.main["sessions"]')["name"]
    assert f"DATABASE_URL=cloudsql://{instance}/context?user={login}" in settings


def test_topics_are_encrypted_and_stay_in_the_region(planned: Plan) -> None:
    topics = planned.resources("google_pubsub_topic")
    ours = {"secret-rotation", "alerts", "budget", "releases"}
    asked = {"candidates"} if planned.variables["promoted_from"] else set()
    assert {each["name"] for each in topics.values()} == ours | asked
    for each in topics.values():
        assert each["kms_key_name"] == planned.resource('google_kms_crypto_key.main["pubsub"]')["id"]
        assert each["message_storage_policy"][0]["allowed_persistence_regions"] == [planned.variables["region"]]

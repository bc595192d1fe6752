"""Who delivers: one account builds and attests, one releases, and neither has more than its part."""

import pytest

from tests.terraform.plans import Plan, plan

BUILD = {
    ("google_project_iam_member", "roles/containeranalysis.occurrences.editor"),
    ("google_project_iam_member", "roles/logging.logWriter"),
    ("google_storage_bucket_iam_member", "roles/storage.objectUser"),
    ("google_artifact_registry_repository_iam_member", "roles/artifactregistry.writer"),
    ("google_kms_crypto_key_iam_member", "roles/cloudkms.signerVerifier"),
    ("google_container_analysis_note_iam_member", "roles/containeranalysis.notes.attacher"),
    ("google_binary_authorization_attestor_iam_member", "roles/binaryauthorization.attestorsViewer"),
}
RELEASE = {
    ("google_project_iam_member", "roles/run.developer"),
    ("google_artifact_registry_repository_iam_member", "roles/artifactregistry.reader"),
    ("google_service_account_iam_member", "roles/iam.serviceAccountUser"),
    ("google_cloud_run_v2_service_iam_member", "roles/run.invoker"),
}


@pytest.fixture(params=["production", "staging"])
def planned(request: pytest.FixtureRequest) -> Plan:
    made: Plan = plan(request.param)
    return made


def held(planned: Plan, account: str) -> set[tuple[str, str]]:
    """Kind of grant and role, of everything that an account of delivery may do."""
    member = planned.resource(f'google_service_account.delivery["{account}"]')["member"]
    grants = [address for address in planned.addresses if "_iam_" in address and "custom_role" not in address]
    found = [(address, planned.resource(address)) for address in grants]
    return {(address.split(".")[0], str(each["role"])) for address, each in found if each.get("member") == member}


def test_the_builder_builds_and_attests(planned: Plan) -> None:
    assert held(planned, "build") == BUILD


def test_the_releaser_releases(planned: Plan) -> None:
    assert held(planned, "release") == RELEASE


def test_the_builder_signs_with_the_attestor_s_key_alone(planned: Plan) -> None:
    key = planned.resource("google_kms_crypto_key.attestor")["id"]
    assert planned.resource("google_kms_crypto_key_iam_member.build")["crypto_key_id"] == key
    assert planned.resource("google_storage_bucket_iam_member.build")["bucket"].endswith("-sources")


def test_a_release_calls_public_services_alone(planned: Plan) -> None:
    asked = [
        each["name"]
        for address, each in planned.resources("google_cloud_run_v2_service_iam_member").items()
        if ".release[" in address
    ]
    public = [
        each["name"]
        for each in planned.resources("google_cloud_run_v2_service").values()
        if each["ingress"] == "INGRESS_TRAFFIC_ALL"
    ]
    assert sorted(asked) == sorted(public)


def test_a_release_acts_as_no_agent(planned: Plan) -> None:
    used = {
        address.split('"')[1]
        for address in planned.resources("google_service_account_iam_member")
        if ".release[" in address
    }
    assert not used & {"gateway", "tasks", "workflows", "scheduler", "sessions"}

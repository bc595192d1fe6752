"""Who delivers: one account builds and attests, one releases, neither has more than its part, and what begins each."""

import re

import pytest

from tests.terraform.plans import Plan, Values, plan

BUILD = {
    ("google_project_iam_member", "roles/containeranalysis.occurrences.editor"),
    ("google_project_iam_member", "roles/logging.logWriter"),
    ("google_storage_bucket_iam_member", "roles/storage.objectUser"),
    ("google_artifact_registry_repository_iam_member", "roles/artifactregistry.writer"),
    ("google_kms_crypto_key_iam_member", "roles/cloudkms.signerVerifier"),
    ("google_container_analysis_note_iam_member", "roles/containeranalysis.notes.attacher"),
    ("google_binary_authorization_attestor_iam_member", "roles/binaryauthorization.attestorsViewer"),
    ("google_pubsub_topic_iam_member", "roles/pubsub.publisher"),
    ("google_cloudbuildv2_connection_iam_member", "roles/cloudbuild.readTokenAccessor"),
}
RELEASE = {
    ("google_project_iam_member", "roles/logging.logWriter"),
    ("google_project_iam_member", "release"),
    ("google_project_iam_member", "roles/run.developer"),
    ("google_artifact_registry_repository_iam_member", "roles/artifactregistry.reader"),
    ("google_service_account_iam_member", "roles/iam.serviceAccountUser"),
    ("google_cloud_run_v2_service_iam_member", "roles/run.invoker"),
    ("google_service_account_iam_member", "roles/iam.serviceAccountOpenIdTokenCreator"),
    ("google_cloudbuildv2_connection_iam_member", "roles/cloudbuild.readTokenAccessor"),
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
    own = planned.resource("google_project_iam_custom_role.release")
    roles = {own["id"]: own["role_id"]}
    return {
        (address.split(".")[0], roles.get(each["role"], str(each["role"])))
        for address, each in found
        if each.get("member") == member
    }


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


def test_a_release_acts_as_no_agent_but_the_gateway_whose_document_it_makes(planned: Plan) -> None:
    used = {
        address.split('"')[1]
        for address in planned.resources("google_service_account_iam_member")
        if ".release[" in address
    }
    assert used & {"gateway", "tasks", "workflows", "scheduler", "sessions"} == {"gateway"}


def test_a_release_makes_identity_tokens_of_its_own_and_of_nobody_else(planned: Plan) -> None:
    own = planned.resource('google_service_account.delivery["release"]')
    given = planned.resource("google_service_account_iam_member.identity")
    assert (given["service_account_id"], given["member"]) == (own["name"], own["member"])


def test_the_history_of_the_source_may_be_read(planned: Plan) -> None:
    for name in ("build", "release"):
        given = planned.resource(f'google_cloudbuildv2_connection_iam_member.source["{name}"]')
        project = planned.variables["project"]
        assert (given["project"], given["location"], given["name"]) == (project, "europe-west1", "github")
    asked = {str(each["name"]): each["substitutions"].get("_SOURCE") for each in triggers(planned).values()}
    wanted = planned.variables["source_repository"]
    assert asked == {name: None if name == "promotion" else wanted for name in asked}


def triggers(planned: Plan) -> dict[str, Values]:
    """By name."""
    return {str(each["name"]): each for each in planned.resources("google_cloudbuild_trigger").values()}


def account(planned: Plan, name: str) -> object:
    """What a trigger names to run as an account of delivery."""
    return planned.resource(f'google_service_account.delivery["{name}"]')["id"]


def test_staging_builds_main_and_nothing_else() -> None:
    planned = plan("staging")
    build = triggers(planned)["build"]
    (event,) = build["repository_event_config"]
    assert [push["branch"] for push in event["push"]] == ["^main$"]
    assert not event["pull_request"], "whoever opens a pull request would build as dc-build"
    assert (build["filename"], build["service_account"]) == ("cloudbuild.yaml", account(planned, "build"))
    assert set(triggers(planned)) == {"build", "release"}


def test_production_builds_nothing_and_promotes_what_somebody_approved() -> None:
    planned = plan("production")
    made = triggers(planned)
    assert set(made) == {"promotion", "release"}
    assert made["promotion"]["approval_config"] == [{"approval_required": True}]
    assert made["promotion"]["service_account"] == account(planned, "build")
    approvers = planned.resource('google_project_iam_member.approver["group:approvers@example.com"]')
    assert approvers["role"] == "roles/cloudbuild.builds.approver"


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_what_was_announced_runs_from_main_as_its_own_account(environment: str) -> None:
    planned = plan(environment)
    for name, trigger in triggers(planned).items():
        if name != "build":
            (file,), (source,) = trigger["git_file_source"], trigger["source_to_build"]
            assert (file["revision"], source["ref"]) == ("refs/heads/main", "refs/heads/main")
            assert file["path"] == f"delivery/{'promotion' if name == 'promotion' else environment}.yaml"
            assert trigger["service_account"] == account(planned, "build" if name == "promotion" else "release")


ZEROS = "0" * 64
HERE = "europe-west1-docker.pkg.dev/dev-context-staging/dev-context/dev-context@sha256:"


@pytest.mark.parametrize(
    ("environment", "trigger", "image", "begins"),
    [
        ("staging", "release", HERE + ZEROS, True),
        ("staging", "release", HERE + ZEROS[1:], False),
        ("staging", "release", HERE.replace(".pkg", "xpkg") + ZEROS, False),
        ("staging", "release", HERE.replace("@sha256:", ":latest@sha256:") + ZEROS, False),
        ("staging", "release", "example.com/x/" + HERE + ZEROS, False),
        ("production", "promotion", HERE + ZEROS, True),
        ("production", "release", HERE + ZEROS, False),
        ("production", "release", HERE.replace("staging", "production") + ZEROS, True),
    ],
)
def test_a_message_names_an_image_of_ours_by_its_digest(
    environment: str, trigger: str, image: str, begins: bool
) -> None:
    """The filter, as Cloud Build reads it: `matches` of CEL searches."""
    text = str(triggers(plan(environment))[trigger]["filter"])
    found = re.fullmatch(r'_IMAGE\.matches\("(\S+)"\) && _COMMIT\.matches\("(\S+)"\)', text)
    assert found
    assert bool(re.search(found[1], image)) is begins
    assert re.search(found[2], "a" * 40)
    assert not re.search(found[2], "main; curl example.com")


def test_environments_meet_in_one_topic_and_one_repository() -> None:
    """Staging's releaser may ask production; production's builder may look at staging. Nothing else crosses."""
    staging, production = plan("staging"), plan("production")

    def strangers(planned: Plan, own: str) -> set[tuple[str, str]]:
        granted = [
            (address, planned.resource(address))
            for address in planned.addresses
            if "_iam_member" in address and "custom_role" not in address
        ]
        of = {(address.split(".")[0], str(each["member"])) for address, each in granted}
        return {(kind, member) for kind, member in of if re.search(rf"@dev-context-(?!{own})", member)}

    asking = "serviceAccount:dc-release@dev-context-staging.iam.gserviceaccount.com"
    looking = "serviceAccount:dc-build@dev-context-production.iam.gserviceaccount.com"
    assert strangers(production, "production") == {("google_pubsub_topic_iam_member", asking)}
    assert strangers(staging, "staging") == {
        ("google_artifact_registry_repository_iam_member", looking),
        ("google_container_analysis_note_iam_member", looking),
        ("google_binary_authorization_attestor_iam_member", looking),
    }


def test_without_a_repository_nothing_begins_by_itself() -> None:
    planned = plan("production", source_repository=None)
    assert triggers(planned) == {}
    assert planned.resources("google_cloudbuildv2_connection_iam_member") == {}

"""Cloud Run: one service for each entry of the catalog, with its own account, secrets, settings and limits."""

import re
from dataclasses import fields
from typing import Any

import pytest
import yaml

from common.settings import Settings
from tests.terraform.plans import Plan, plan
from tools.terraform.plan import CHECKOUT, Failed, binary, running
from tools.terraform.plan import plan as planning

CATALOG: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())
SERVICES = CATALOG["services"]
KNOWN = {field.name.upper() for field in fields(Settings)}
DOCUMENTED = {*re.findall(r"(?m)^\| `([A-Z0-9_]+)` \|", (CHECKOUT / "docs" / "settings.md").read_text())}
SERVERS = {"GRANIAN_BLOCKING_THREADS"}  # read by the server of the image
# Settings whose default is right in the cloud, or that differ from deployment to deployment: var.settings.
ELSEWHERE = {
    *(name for name in KNOWN if name.endswith(("_ENDPOINT", "_SECONDS")) or name.startswith(("RATE_", "ARGON2_"))),
    *("IDENTITY_ISSUER", "IDENTITY_JWKS_URL", "CORS_ORIGINS", "OIDC_PROVIDERS", "TRUSTED_ISSUERS", "PROCESSORS"),
    *("TASKS_QUEUE", "MAILS_QUEUE", "SMTP_URL", "MAIL_FROM", "MAIL_PROVIDER", "OPERATOR_NAME", "OPERATOR_CONTACT"),
    *("OPERATOR_REPRESENTATIVE", "DPO_CONTACT", "SUPERVISORY_AUTHORITY", "PRIVACY_MAIL", "SMS_FROM", "SMS_PREFIXES"),
    *("SECURITY_CONTACT", "DISCLOSURE_POLICY"),
    *("TRACE_SAMPLE_RATIO", "K_REVISION", "RELEASE"),  # Cloud Run itself and the image say the last two
    *("HOST", "PORT", "STREAMS_PER_ORGANIZATION", "HASHING_WAITING", "INVITATIONS_PER_HOUR"),
}


@pytest.fixture(scope="module", params=["staging", "production"])
def planned(request: pytest.FixtureRequest) -> Plan:
    return plan(request.param)


def services(planned: Plan) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in planned.resources("google_cloud_run_v2_service").values()}


def template(service: dict[str, Any]) -> dict[str, Any]:
    (found,) = service["template"]
    return dict(found)


def container(service: dict[str, Any]) -> dict[str, Any]:
    (found,) = template(service)["containers"]
    return dict(found)


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(service)["env"]}


def test_each_entry_of_the_catalog_is_a_service_by_digest(planned: Plan) -> None:
    assert services(planned).keys() == SERVICES.keys()
    for service in services(planned).values():
        assert container(service)["image"] == planned.variables["image"]
        assert re.search("@sha256:[0-9a-f]{64}$", container(service)["image"])
        assert service["location"] == "europe-west1"
        assert service["deletion_protection"] is True


def test_limits_are_the_catalogs(planned: Plan) -> None:
    warm = planned.variables["warm"]
    for name, entry in SERVICES.items():
        service = services(planned)[name]
        known, ((scaling,), (resources,)) = (
            template(service),
            (template(service)["scaling"], container(service)["resources"]),
        )
        assert known["timeout"] == f"{entry['timeout_seconds']}s"
        assert known["max_instance_request_concurrency"] == entry["concurrency"]
        assert known["service_account"] == f"dc-{name}@{planned.variables['project']}.iam.gserviceaccount.com"
        assert scaling["max_instance_count"] == entry["max_instances"]
        assert scaling["min_instance_count"] == (entry["min_instances"] if warm else 0)
        assert resources["limits"] == {"cpu": str(entry["cpu"]), "memory": entry["memory"]}
        assert (resources["cpu_idle"], resources["startup_cpu_boost"]) == (True, True)


def test_auth_and_projects_keep_an_instance_in_production() -> None:
    made = services(plan("production"))
    warm = {name for name, service in made.items() if template(service)["scaling"][0]["min_instance_count"] > 0}
    assert warm == {"auth", "projects"}


def test_what_the_gateway_calls_is_reachable_and_nothing_else_is(planned: Plan) -> None:
    """API Gateway is no internal caller; an identity token of an invoker is asked for everywhere."""
    for name, service in services(planned).items():
        public = SERVICES[name]["ingress"] == "all"
        assert service["ingress"] == ("INGRESS_TRAFFIC_ALL" if public else "INGRESS_TRAFFIC_INTERNAL_ONLY")
        assert not service.get("invoker_iam_disabled")
        assert environment(service)["PLATFORM_CHECKS_IDENTITY"] == "true"
        assert environment(service)["BEARER_HEADER"] == "X-Forwarded-Authorization"


def test_past_the_gateway_the_load_balancer_alone_reaches_public_services() -> None:
    """Then nobody checks the identity tokens of internal routes but the service itself."""
    for name, service in services(plan("production", edge="run")).items():
        public = SERVICES[name]["ingress"] == "all"
        internal = "INGRESS_TRAFFIC_INTERNAL_ONLY"
        assert service["ingress"] == ("INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" if public else internal)
        assert bool(service.get("invoker_iam_disabled")) is public
        assert environment(service)["PLATFORM_CHECKS_IDENTITY"] == ("false" if public else "true")
        assert environment(service)["BEARER_HEADER"] == ("Authorization" if public else "X-Forwarded-Authorization")


def test_the_way_out_is_our_network(planned: Plan) -> None:
    private = planned.resource("google_compute_subnetwork.private")["id"]
    for service in services(planned).values():
        ((access,),) = [template(service)["vpc_access"]]
        assert access["egress"] == "ALL_TRAFFIC"
        assert [each["subnetwork"] for each in access["network_interfaces"]] == [private]
        assert not access.get("connector")


def test_images_are_checked_and_kept_under_our_key(planned: Plan) -> None:
    key = planned.resource('google_kms_crypto_key.main["run"]')["id"]
    for service in services(planned).values():
        assert [each["use_default"] for each in service["binary_authorization"]] == [True]
        assert template(service)["encryption_key"] == key
        assert template(service)["execution_environment"] == "EXECUTION_ENVIRONMENT_GEN2"


def test_probes_ask_for_what_each_function_answers(planned: Plan) -> None:
    for service in services(planned).values():
        ((startup,), (liveness,)) = container(service)["startup_probe"], container(service)["liveness_probe"]
        for probe in (startup, liveness):
            assert [(each["path"], each["port"]) for each in probe["http_get"]] == [("/health/", 8080)]
            assert probe["timeout_seconds"] <= probe["period_seconds"]
        assert startup["period_seconds"] * startup["failure_threshold"] >= 60


def test_each_secret_has_a_folder_of_its_own_and_none_is_in_the_environment(planned: Plan) -> None:
    for name, service in services(planned).items():
        entry = SERVICES[name]
        wanted = {*entry["secrets"], f"context-key-{entry['role']}", "sentry-dsn", "valkey-ca"}
        volumes = {each["name"]: each["secret"][0] for each in template(service)["volumes"]}
        mounts = {each["mount_path"]: volumes[each["name"]] for each in container(service)["volume_mounts"]}
        assert {path: secret["secret"] for path, secret in mounts.items()} == {f"/secrets/{id}": id for id in wanted}
        assert {(item["path"], item["version"]) for each in mounts.values() for item in each["items"]} == {
            ("latest",) * 2
        }
        assert all(re.fullmatch("[a-z][a-z0-9-]{0,62}", volume) for volume in volumes)
        assert not any(each.get("value_source") for each in container(service)["env"])


def test_environments_hold_settings_and_each_value_that_terraform_knows(planned: Plan) -> None:
    project = planned.variables["project"]
    for name, service in services(planned).items():
        known, entry = environment(service), SERVICES[name]
        assert known.keys() <= (KNOWN & DOCUMENTED) | SERVERS
        assert KNOWN - known.keys() <= ELSEWHERE
        assert known["SERVICE"] == name
        assert known["SECRETS_DIR"] == "/secrets"
        assert known["DATABASE_POOL"] == known["GRANIAN_BLOCKING_THREADS"] == str(entry["concurrency"])
        instance = planned.resource("google_sql_database_instance.main")["connection_name"]
        assert known["DATABASE_URL"] == f"cloudsql://{instance}/context?user=dc-{name}@{project}.iam"
        assert known["SERVICE_ACCOUNT"] == f"dc-{name}@{project}.iam.gserviceaccount.com"
        assert known["KMS_KEY"] == planned.resource('google_kms_crypto_key.main["fields"]')["id"]
        assert known["EXPORT_BUCKET"] == planned.resource('google_storage_bucket.main["exports"]')["name"]
        assert known["JWT_ALGORITHM"] == "RS256"  # or every service that verifies tokens could make them
        assert (known["VALKEY_URL"].split(":")[0], known["VALKEY_IAM"]) == ("rediss", "true")
        assert known["VALKEY_CA"] == "/secrets/valkey-ca/latest"
        assert known["TELEMETRY_ENDPOINT"] == "https://telemetry.googleapis.com"


def test_what_is_required_is_given(planned: Plan) -> None:
    required = {"SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"}
    for name, service in services(planned).items():
        known = environment(service)
        assert all(known[setting] for setting in required)
        assert known["SERVICE_URL"] == f"https://{name}-123456789012.europe-west1.run.app"
        assert service["custom_audiences"] == [known["SERVICE_URL"]]
        assert known["AUTH_URL"] == "https://auth-123456789012.europe-west1.run.app"


def test_a_deployment_may_set_what_terraform_does_not_know() -> None:
    made = services(plan("production", settings={"STEP_UP_SECONDS": "60", "JWT_ALGORITHM": "HS256"}))
    assert {environment(service)["STEP_UP_SECONDS"] for service in made.values()} == {"60"}
    assert {environment(service)["JWT_ALGORITHM"] for service in made.values()} == {"HS256"}


@pytest.mark.parametrize("name", ["SERVICE", "PLATFORM_CHECKS_IDENTITY", "STEP_UP_SECOND"])
def test_a_setting_that_terraform_knows_or_nobody_does_is_refused(name: str) -> None:
    if binary() is None:
        pytest.skip("terraform is not installed")
    with running(CHECKOUT, resolved=True) as run, pytest.raises(Failed, match="settings has a name"):
        planning(run, "production", {"settings": {name: "false"}})


def test_the_release_moves_image_and_traffic_and_terraform_does_not_move_them_back() -> None:
    ignored = r"ignore_changes = \[template\[0\]\.containers\[0\]\.image, traffic, client, client_version\]"
    assert re.search(ignored, (CHECKOUT / "terraform" / "services.tf").read_text())
    for service in services(plan("production")).values():
        assert not service.get("traffic")
        assert not template(service).get("revision")  # a named one could not be configured anew


@pytest.mark.parametrize("changes", [{"image": None}, {"services": False}])
def test_before_the_first_release_there_is_none(changes: dict[str, Any]) -> None:
    without = plan("production", **{"session_endpoint_zones": [], **changes})
    assert services(without) == {}
    assert without.resources("google_cloud_scheduler_job") == {}
    assert without.resources("google_cloud_run_v2_service_iam_member") == {}


@pytest.mark.parametrize("edge", ["gateway", "run"])
def test_a_new_service_waits_while_its_keys_and_roles_are_made(edge: str) -> None:
    """docs/runbooks/deploy.md: what the jobs need is there, what runs is not, and nothing else is missing."""
    whole, waiting = plan("production", edge=edge), plan("production", edge=edge, not_yet=["projects"])
    missing = set(whole.addresses) - set(waiting.addresses)
    assert 'google_cloud_run_v2_service.main["projects"]' in missing
    assert not {address for address in missing if "projects" not in address}
    for address in (
        'google_service_account.main["projects"]',
        'google_sql_user.main["projects"]',
        'google_secret_manager_secret.main["context-key-projects_fn"]',
        'google_secret_manager_secret_iam_member.writer["context-key-projects_fn/keys/secretVersionManager"]',
    ):
        assert address in waiting.addresses

"""Every right in the project, recomputed from the catalog without the HCL: one more, one wider or one missing fails."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from functions.keys.policies import WRAPPED
from tests.terraform.plans import Plan, plan
from tools.terraform.plan import CHECKOUT

CATALOG: dict[str, dict[str, Any]] = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())
SERVICES, WORKLOADS, JOBS = CATALOG["services"], CATALOG["workloads"], CATALOG["jobs"]
LOGINS = SERVICES | WORKLOADS
AGENTS = ("gateway", "tasks", "workflows", "scheduler", "alerts")
OPERATORS = "group:operators@example.com"
GRANTS = re.compile(r"_iam_(member|binding|policy)$|_acl$|_access_control$")
WHERE = (
    "bucket",
    "note",
    "attestor",
    "crypto_key_id",
    "secret_id",
    "service_account_id",
    "name",
    "repository",
    "topic",
    "project",
)


class Right(NamedTuple):
    """Who may do what where; Google's part of each name left away: `dc-auth`, `run.invoker`, `service auth`."""

    member: str
    role: str
    place: str


ALWAYS = {  # what Google's own agents and the cluster's nodes need: tools/terraform/grants.yaml says why
    *(
        Right(f"agent {agent}", "cloudkms.cryptoKeyEncrypterDecrypter", f"key {key}")
        for key, agent in {
            "cache": "memorystore",
            "cluster": "container",
            "database": "sqladmin",
            "logging": "logging",
            "pubsub": "pubsub",
            "registry": "artifactregistry",
            "run": "run",
            "secrets": "secretmanager",
            "storage": "storage",
            "workflows": "workflows",
        }.items()
    ),
    Right("agent compute", "cloudkms.cryptoKeyEncrypterDecrypter", "key cluster"),
    Right("agent secretmanager", "pubsub.publisher", "topic secret-rotation"),
    Right("agent monitoring", "pubsub.publisher", "topic alerts"),
    Right("agent billing", "pubsub.publisher", "topic budget"),
    Right("dc-nodes", "container.defaultNodeServiceAccount", "project"),
    Right("dc-nodes", "artifactregistry.reader", "repository dev-context"),
}
DELIVERY = {  # who makes an image attests it, and does not put it in front; who does, makes none
    Right("dc-build", "logging.logWriter", "project"),
    Right("dc-build", "containeranalysis.occurrences.editor", "project"),
    Right("dc-build", "storage.objectUser", "bucket sources"),
    Right("dc-build", "artifactregistry.writer", "repository dev-context"),
    Right("dc-build", "cloudkms.signerVerifier", "key attestor"),
    Right("dc-build", "containeranalysis.notes.attacher", "note built"),
    Right("dc-build", "binaryauthorization.attestorsViewer", "attestor built"),
    Right("dc-release", "run.developer", "project"),
    Right("dc-release", "logging.logWriter", "project"),
    Right("dc-release", "custom release", "project"),
    Right("dc-release", "iam.serviceAccountUser", "account dc-gateway"),
    Right("dc-release", "iam.serviceAccountOpenIdTokenCreator", "account dc-release"),
    Right("dc-release", "cloudbuild.readTokenAccessor", "connection github"),
    Right("dc-build", "cloudbuild.readTokenAccessor", "connection github"),
    Right("dc-build", "pubsub.publisher", "topic releases"),
    Right("dc-release", "artifactregistry.reader", "repository dev-context"),
}
STAGING = {  # production's builder looks at what staging has run
    Right("dc-build of production", "artifactregistry.reader", "repository dev-context"),
    Right("dc-build of production", "containeranalysis.notes.occurrences.viewer", "note built"),
    Right("dc-build of production", "binaryauthorization.attestorsViewer", "attestor built"),
}
PRODUCTION = {  # staging's releaser asks; a person answers
    Right("dc-release of staging", "pubsub.publisher", "topic candidates"),
    Right("group:approvers@example.com", "cloudbuild.builds.approver", "project"),
}
BUCKET_ROLES = {
    "read": "storage.objectViewer",
    "create": "storage.objectCreator",
    "remove": "custom remover",
    "manage": "storage.objectUser",
}
CUSTOM = {
    "remover": {"storage.objects.delete", "storage.objects.list"},
    "signer": {"iam.serviceAccounts.signBlob"},
    "caller": {"serviceusage.services.use"},
    "release": {
        *(f"apigateway.apiconfigs.{verb}" for verb in ("create", "delete", "get", "list")),
        *("apigateway.gateways.get", "apigateway.gateways.update", "apigateway.operations.get"),
        *("container.clusters.connect", "container.clusters.get"),
    },
}


def expected(planned: Plan) -> set[Right]:
    """What the catalog asks for in this environment."""
    made = planned.variables["image"] is not None
    project = planned.variables["project"]
    rights = {*ALWAYS, *DELIVERY, *on_the_project(), *on_data(project), *on_secrets()}
    rights |= STAGING if planned.variables["environment"] == "staging" else PRODUCTION
    accounts = {*SERVICES, *(job["account"] for job in JOBS.values())}  # what a release starts runs as these
    rights |= {Right("dc-release", "iam.serviceAccountUser", f"account dc-{name}") for name in accounts}
    if made:
        for name, service in SERVICES.items():
            callers = [*service["invokers"], *(["release"] if service["ingress"] == "all" else [])]
            rights |= {Right(f"dc-{caller}", "run.invoker", f"service {name}") for caller in callers}
    return rights


def on_the_project() -> Iterator[Right]:
    """Where Google knows no smaller place."""
    for name in {*LOGINS, *(job["account"] for job in JOBS.values() if "database" in job)}:
        yield Right(f"dc-{name}", "cloudsql.client", "project")
        yield Right(f"dc-{name}", "cloudsql.instanceUser", "project")
    for name, login in LOGINS.items():
        yield Right(f"dc-{name}", "memorystore.dbConnectionUser", "project")
        yield Right(f"dc-{name}", "telemetry.metricsWriter", "project")
        yield Right(f"dc-{name}", "telemetry.tracesWriter", "project")
        yield Right(f"dc-{name}", "custom caller", "project")
        if login.get("reads_logs"):
            yield Right(f"dc-{name}", "logging.viewer", "project")
            yield Right(f"dc-{name}", "logging.viewAccessor", "project")
        if login.get("blocks"):
            yield Right(f"dc-{name}", "custom armorBlocker", "project")
    yield Right("dc-tasks", "workflows.invoker", "project")
    yield Right("dc-workflows", "logging.logWriter", "project")


def on_data(project: str) -> Iterator[Right]:
    """Queues, accounts, buckets, the key of the fields."""
    for name, entry in [*LOGINS.items(), *((job["account"], job) for job in JOBS.values())]:
        for queue in entry.get("queues", []):
            yield Right(f"dc-{name}", "cloudtasks.enqueuer", f"queue {queue}")
            yield Right(f"dc-{name}", "iam.serviceAccountUser", "account dc-tasks")
        for bucket, rights in entry.get("buckets", {}).items():
            yield from (Right(f"dc-{name}", BUCKET_ROLES[right], f"bucket {bucket}") for right in rights)
        if entry.get("signs_urls"):
            yield Right(f"dc-{name}", "custom signer", f"account dc-{name}")
        if {*WRAPPED} & {*entry["secrets"]}:
            yield Right(f"dc-{name}", "cloudkms.cryptoKeyDecrypter", "key fields")
        if entry.get("secret_writer"):
            yield Right(f"dc-{name}", "cloudkms.cryptoKeyEncrypter", "key fields")
    for name in WORKLOADS:
        yield Right(f"{project}.svc.id.goog[dev-context/{name}]", "iam.workloadIdentityUser", f"account dc-{name}")


def on_secrets() -> Iterator[Right]:
    """Each reads what it mounts; who turns the rings reads and writes them, and mounts what everybody does."""
    context = {f"context-key-{login['role']}" for login in LOGINS.values()}
    by_hand = CATALOG["by_hand"]
    rings = context | {id for login in LOGINS.values() for id in login["secrets"] if id not in by_hand}
    for name, login in LOGINS.items():
        own = {*login["secrets"], f"context-key-{login['role']}", "sentry-dsn", "valkey-ca"}
        reader = f"pod {name}-secrets" if name in WORKLOADS else f"dc-{name}"
        if login.get("secret_writer"):
            written = rings | {id for id, entry in by_hand.items() if entry.get("random") or "begins" in entry}
            yield from (Right(reader, "secretmanager.secretVersionManager", f"secret {id}") for id in written)
            own = written | {"sentry-dsn", "valkey-ca"}
        yield from (Right(reader, "secretmanager.secretAccessor", f"secret {id}") for id in own)
    for job in JOBS.values():
        for id in {*job["secrets"], *(context if job.get("context_keys") else ())}:
            yield Right(f"dc-{job['account']}", "secretmanager.secretAccessor", f"secret {id}")


def found(planned: Plan) -> list[Right]:
    """What the plan grants, with its names shortened."""
    roles = {each["id"]: each["role_id"] for each in planned.resources("google_project_iam_custom_role").values()}
    kinds = {address.split(".")[0] for address in planned.addresses}
    project = planned.variables["project"]
    granting = [each for kind in kinds if GRANTS.search(kind) for each in planned.resources(kind).items()]
    return [
        Right(_member(values["member"], project), _role(values["role"], roles), _place(address, values))
        for address, values in granting
    ]


def _member(text: str, project: str) -> str:
    ours = re.fullmatch(r"serviceAccount:(dc-[a-z-]+)@(dev-context-(\w+))\.iam\.gserviceaccount\.com", text)
    identity = re.fullmatch(r"google_project_service_identity/(\w+)\.googleapis\.com/member", text)
    subject = re.fullmatch(
        r"principal://iam\.googleapis\.com/projects/\d+/locations/global/workloadIdentityPools/dev-context-\w+"
        r"\.svc\.id\.goog/subject/ns/dev-context/sa/([a-z-]+)",
        text,
    )
    others = {
        "google_storage_project_service_account": "agent storage",
        "google_logging_project_cmek_settings": "agent logging",
        "@compute-system.": "agent compute",
        "billing-budget-alert@system.": "agent billing",
    }
    if ours:
        return ours[1] if ours[2] == project else f"{ours[1]} of {ours[3]}"
    if identity:
        return f"agent {identity[1]}"
    if subject:
        return f"pod {subject[1]}"
    return next((agent for part, agent in others.items() if part in text), text.removeprefix("serviceAccount:"))


def _role(text: str, custom: dict[str, str]) -> str:
    return f"custom {custom[text]}" if text in custom else text.removeprefix("roles/")


def _place(address: str, values: dict[str, Any]) -> str:
    kind = address.split(".")[0]
    given = next(str(values[field]) for field in WHERE if field in values)
    short = given.split("/")[-2] if given.startswith("google_") else re.sub(r"^dev-context-\w+-", "", given)
    named = {
        "google_storage_bucket_iam_member": "bucket",
        "google_kms_crypto_key_iam_member": "key",
        "google_secret_manager_secret_iam_member": "secret",
        "google_service_account_iam_member": "account",
        "google_cloud_tasks_queue_iam_member": "queue",
        "google_cloud_run_v2_service_iam_member": "service",
        "google_cloud_run_v2_job_iam_member": "job",
        "google_artifact_registry_repository_iam_member": "repository",
        "google_pubsub_topic_iam_member": "topic",
        "google_container_analysis_note_iam_member": "note",
        "google_cloudbuildv2_connection_iam_member": "connection",
        "google_binary_authorization_attestor_iam_member": "attestor",
    }
    return "project" if kind == "google_project_iam_member" else f"{named.get(kind, kind)} {short}"


PLANS = {
    "staging": ("staging", {}),
    "production": ("production", {}),
    "foundation": ("foundation", {}),
    "past the gateway": ("production", {"edge": "run"}),
}


@pytest.fixture(scope="module", params=PLANS)
def planned(request: pytest.FixtureRequest) -> Plan:
    name, changes = PLANS[request.param]
    return plan(name, **changes)


def test_no_right_is_missing_and_none_is_more(planned: Plan) -> None:
    granted = found(planned)
    assert {*granted} - expected(planned) == set(), "more, or wider, than the catalog says"
    assert expected(planned) - {*granted} == set(), "less than the catalog says"


def test_roles_of_our_own_are_what_they_are_called(planned: Plan) -> None:
    made = planned.resources("google_project_iam_custom_role").values()
    ours = {each["role_id"]: {*each["permissions"]} for each in made if each["role_id"] in CUSTOM}
    assert ours == CUSTOM


def test_each_right_is_one_member_of_one_role(planned: Plan) -> None:
    """A binding or a policy would take away, at the apply, what Google has given to its own agents."""
    kinds = {address.split(".")[0] for address in planned.addresses}
    assert [kind for kind in kinds if re.search(r"_iam_(binding|policy)$|_acl$|_access_control$", kind)] == []


def test_each_right_is_given_in_this_project_and_always(planned: Plan) -> None:
    """What test_no_right_is_missing compares is the whole of a grant."""
    kinds = {address.split(".")[0] for address in planned.addresses}
    for kind in sorted(kind for kind in kinds if GRANTS.search(kind)):
        for address, values in planned.resources(kind).items():
            assert values.get("project", planned.variables["project"]) == planned.variables["project"], address
            assert not values.get("condition"), address


def test_nothing_is_everybodys_and_nobody_may_change_rights(planned: Plan) -> None:
    for right in found(planned):
        assert not re.search("allUsers|allAuthenticatedUsers|domain:|projectViewer", right.member)
        itself = right.place == f"account {right.member}" and right.role == "iam.serviceAccountOpenIdTokenCreator"
        wide = re.search(r"(?i)^owner$|^editor$|^viewer$|admin$|tokenCreator|securityAdmin", right.role)
        assert itself or not wide, right


def test_each_service_workload_and_agent_has_an_account_of_its_own(planned: Plan) -> None:
    accounts = {each["account_id"] for each in planned.resources("google_service_account").values()}
    jobs = {job["account"] for job in JOBS.values()}
    assert {f"dc-{name}" for name in {*LOGINS, *AGENTS, *jobs}} <= accounts
    assert all(6 <= len(account) <= 30 for account in accounts)
    assert planned.resources("google_service_account_key") == {}


def test_operators_start_the_operators_jobs_and_no_others() -> None:
    more = {*found(plan("production", operators=[OPERATORS]))} - {*found(plan("production"))}
    jobs = {name for name in JOBS if name not in ("migrate", "provision", "first-keys")}
    assert more == {Right(OPERATORS, "run.jobsExecutorWithOverrides", f"job {name}") for name in jobs}

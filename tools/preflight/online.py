"""What the project says, through Google's APIs."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tools.preflight.google import Unanswered
from tools.preflight.items import AFTER, BEFORE, CHECKLIST, Context, Finding, Status, judged

BACKUP_AGE = timedelta(hours=26)
RECENT = timedelta(minutes=30)
PAGE, POINTS = 100, 10_000
BACKENDS = "cloudsql.googleapis.com/database/postgresql/num_backends"
FULL = 0.9  # of the connections
NOTHING = "nothing was measured within half an hour"
item = CHECKLIST.item


@item(BEFORE, "Secrets configured in Secret Manager")
def secrets(context: Context) -> Finding:
    """Each has an enabled newest version."""
    logins = [*context.catalog["services"].values(), *context.catalog["workloads"].values()]
    ids = {id for entry in (*logins, *context.catalog["jobs"].values()) for id in entry["secrets"]}
    ids |= {f"context-key-{entry['role']}" for entry in logins} | context.catalog["by_hand"].keys()
    states = {id: context.project.secret_state(id) for id in sorted(ids)}
    return judged([f"{id}: {state}" for id, state in states.items() if state != "ENABLED"], f"{len(ids)} secrets")


@item(BEFORE, "Migrations tested in staging")
def migrated(context: Context) -> Finding:
    """The last execution of staging's job `migrate`, of the very image, succeeded."""
    google, wanted = context.project, (context.variables.get("image") or "").rpartition("@")[2]
    if not context.staging:
        raise Unanswered("no other project was asked: --staging")
    path = f"v2/projects/{context.staging}/locations/{google.region}/jobs/migrate/executions"
    runs = google.ask("run", path, pageSize=1).get("executions", [])
    if not runs:
        return Finding(Status.FAIL, f"the job never ran in {context.staging}")
    ran = runs[0]["template"]["containers"][0]["image"].rpartition("@")[2]
    problems = [] if runs[0].get("succeededCount") else ["its last execution failed"]
    return judged(problems + ([] if ran == wanted else [f"it was another image: {ran[:19]}"]), ran[:19])


@item(BEFORE, "Backups: daily, kept a week, to any moment; the last one succeeded")
def backups(context: Context) -> Finding:
    """Cloud SQL's own record."""
    google = context.project
    path = _instance(context)
    instance = google.ask("sqladmin", path)
    plan = instance["settings"].get("backupConfiguration", {})
    problems = []
    if not plan.get("enabled") or not plan.get("pointInTimeRecoveryEnabled"):
        problems.append("backups or point-in-time recovery are off")
    if plan.get("transactionLogRetentionDays", 0) < 7:
        problems.append("the log is kept for less than 7 days")
    if plan.get("backupRetentionSettings", {}).get("retainedBackups", 0) < 7:
        problems.append("fewer than 7 backups are kept")
    runs = google.ask("sqladmin", f"{path}/backupRuns", maxResults=10).get("items", [])
    ended = [_time(run["endTime"]) for run in runs if run.get("status") == "SUCCESSFUL"]
    if not ended or datetime.now(UTC) - max(ended) > BACKUP_AGE:
        problems.append(f"no successful backup of the last {BACKUP_AGE.total_seconds() / 3600:.0f} hours")
    return judged(problems, f"{len(ended)} of the last {len(runs)} runs")


@item(BEFORE, "The database is encrypted under our key")
def encryption(context: Context) -> Finding:
    """Cloud SQL's own record."""
    instance = context.project.ask("sqladmin", _instance(context))
    key = instance.get("diskEncryptionConfiguration", {}).get("kmsKeyName", "")
    return judged([] if key else ["it is under Google's own key"], key)


@item(BEFORE, "Monitoring configured")
def monitoring(context: Context) -> Finding:
    """As many enabled alert policies as the plan has, each with somebody to tell, and uptime checks."""
    google = context.project
    found = google.ask("monitoring", f"v3/projects/{google.project}/alertPolicies", pageSize=PAGE)
    policies = found.get("alertPolicies", [])
    uptime = google.ask("monitoring", f"v3/projects/{google.project}/uptimeCheckConfigs", pageSize=PAGE)
    wanted = len(context.resources("google_monitoring_alert_policy"))
    enabled = [each for each in policies if each.get("enabled", True)]
    problems = [f"{each['displayName']}: nobody is told" for each in enabled if not each.get("notificationChannels")]
    if len(enabled) < wanted or not wanted:
        problems.append(f"{len(enabled)} alert policies of {wanted}")
    if not uptime.get("uptimeCheckConfigs"):
        problems.append("no uptime check")
    return judged(problems, f"{len(enabled)} alert policies")


@item(BEFORE, "Security scan: no critical or high vulnerability in the image")
def scan(context: Context) -> Finding:
    """Artifact Registry's scan of the very digest."""
    google, image = context.project, context.variables.get("image") or ""
    asked = f'resourceUrl="https://{image}"'
    path = f"v1/projects/{google.project}/occurrences"
    scans = google.ask("analysis", path, filter=f'kind="DISCOVERY" AND {asked}').get("occurrences", [])
    states = [each.get("discovery", {}).get("analysisStatus") for each in scans]
    if "FINISHED_SUCCESS" not in states:
        return Finding(Status.UNKNOWN, f"no finished scan of {image.rpartition('@')[2][:19]}")
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = google.ask("analysis", path, filter=f'kind="VULNERABILITY" AND {asked}', pageToken=token)
        found += page.get("occurrences", [])
        token = page.get("nextPageToken", "")
        if not token:
            break
    grave = [each for each in found if each["vulnerability"].get("effectiveSeverity") in ("CRITICAL", "HIGH")]
    problems = [
        f"{each['noteName'].rpartition('/')[2]}: {each['vulnerability']['effectiveSeverity']}" for each in grave
    ]
    return judged(problems, f"{len(found)} known vulnerabilities, none critical or high")


@item(AFTER, "Every service runs the release's image, and the traffic goes where the release put it")
def services(context: Context) -> Finding:
    """The template of each service, and its traffic by names of revisions."""
    google, wanted, problems = context.project, context.variables.get("image"), []
    for name in context.catalog["services"]:
        service = google.ask("run", f"v2/projects/{google.project}/locations/{google.region}/services/{name}")
        images = {each["image"] for each in service["template"]["containers"]}
        if images != {wanted}:
            problems.append(f"{name} has another image")
        if service.get("terminalCondition", {}).get("state") != "CONDITION_SUCCEEDED":
            problems.append(f"{name} is not ready")
        if any(each["type"].endswith("LATEST") for each in service.get("traffic", [])):
            problems.append(f"{name}: its traffic follows the latest revision")
    return judged(problems, f"{len(context.catalog['services'])} services")


@item(AFTER, "Rollback ready: the revisions before are kept")
def kept(context: Context) -> Finding:
    """A tag that `tools.release --back` follows."""
    google, problems = context.project, []
    for name in context.catalog["services"]:
        service = google.ask("run", f"v2/projects/{google.project}/locations/{google.region}/services/{name}")
        if "previous" not in {each.get("tag") for each in service.get("traffic", [])}:
            problems.append(f"{name}: no earlier revision")
    return judged(problems, "a tag `previous` on every service")


@item(AFTER, "Logs flowing to Cloud Logging")
def logs(context: Context) -> Finding:
    """An entry of a service within the last half hour."""
    google, since = context.project, (datetime.now(UTC) - RECENT).isoformat()
    body = {
        "resourceNames": [f"projects/{google.project}"],
        "filter": f'resource.type="cloud_run_revision" AND timestamp>="{since}"',
        "orderBy": "timestamp desc",
        "pageSize": 1,
    }
    found = google.ask("logging", "v2/entries:list", body).get("entries", [])
    return judged([] if found else ["no entry of a service within half an hour"], "an entry of the last half hour")


@item(AFTER, "Metrics visible in Cloud Monitoring")
def metrics(context: Context) -> Finding:
    """Requests counted within the last half hour."""
    found = _series(context, 'metric.type="run.googleapis.com/request_count"')
    return judged([] if found else [NOTHING], f"{len(found)} series")


@item(AFTER, "Database connections stable")
def connections(context: Context) -> Finding:
    """The database's own count within the last half hour, against what it allows."""
    instance = f"{context.project.project}:{context.variables.get('database_instance', 'main')}"
    asked = f'metric.type="{BACKENDS}" AND resource.labels.database_id="{instance}"'
    found = _series(context, asked)
    allowed, counts = int(context.catalog["database"]["max_connections"]), dict[str, int]()
    for point in (point for series in found for point in series["points"]):
        ended = point["interval"]["endTime"]
        counts[ended] = counts.get(ended, 0) + int(point["value"]["int64Value"])
    if not counts:
        return Finding(Status.FAIL, NOTHING)
    most = max(counts.values())
    return judged([f"{most} of {allowed}"] if most > allowed * FULL else [], f"at most {most} of {allowed}")


def _series(context: Context, asked: str) -> list[dict[str, Any]]:
    google, now = context.project, datetime.now(UTC)
    window: dict[str, Any] = {"interval.startTime": (now - RECENT).isoformat(), "interval.endTime": now.isoformat()}
    path = f"v3/projects/{google.project}/timeSeries"
    found: list[dict[str, Any]] = google.ask("monitoring", path, filter=asked, pageSize=POINTS, **window).get(
        "timeSeries", []
    )
    return found


@item(AFTER, "Errors tracked")
def errors(context: Context) -> Finding:
    """The logs can be asked for errors; how many of today are unexpected."""
    google, since = context.project, (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    body = {
        "resourceNames": [f"projects/{google.project}"],
        "filter": f'severity>=ERROR AND resource.type="cloud_run_revision" AND timestamp>="{since}"',
        "pageSize": PAGE,
    }
    found = google.ask("logging", "v2/entries:list", body).get("entries", [])
    return judged([f"{len(found)} errors within the hour"] if found else [], "no error within the hour")


def _instance(context: Context) -> str:
    return f"v1/projects/{context.project.project}/instances/{context.variables.get('database_instance', 'main')}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)

"""What the repository, the variables and the plan say by themselves."""

import re
import tomllib
from typing import Any

from tools.preflight.items import BEFORE, CHECKLIST, Context, Finding, Status, judged, passed

PLACEHOLDER = re.compile(r"\bexample\.(?:com|org|net)\b|\bCHANGE[-_]?ME\b", re.IGNORECASE)
ZERO = "@sha256:" + "0" * 64
STATED = (
    *("OPERATOR_NAME", "OPERATOR_CONTACT", "DPO_CONTACT", "SUPERVISORY_AUTHORITY", "SECURITY_CONTACT"),
    *("SMTP_URL", "MAIL_FROM"),
)
IN_A_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
SECRET_NAME = re.compile(r"PASSWORD|TOKEN$|PRIVATE_KEY|CREDENTIAL")
item = CHECKLIST.item


@item(BEFORE, "Environment variables: every value is this deployment's own")
def variables(context: Context) -> Finding:
    """No placeholder, an image that exists, and what the law wants to be stated."""
    given = context.variables
    problems = [f"{name} holds a placeholder" for name, value in given.items() if PLACEHOLDER.search(str(value))]
    if ZERO in str(given.get("image")):
        problems.append("image is a digest of zeros")
    if not given.get("image"):
        problems.append("image is not given")
    settings = given.get("settings") or {}
    problems += [f"settings.{name} is not stated" for name in STATED if not settings.get(name)]
    if re.match(r"smtp://[^@]*$", str(settings.get("SMTP_URL"))):
        problems.append("settings.SMTP_URL may speak without TLS: smtps://, or a user (docs/settings.md)")
    return judged(problems, f"env/{context.environment}.tfvars: {len(given)} variables, {len(settings)} settings")


@item(BEFORE, "No credentials in environment variables")
def no_secret_in_environment(context: Context) -> Finding:
    """Secrets are files: no variable of a service is named like one, or is a URL with a password."""
    kinds = ("google_cloud_run_v2_service", "google_cloud_run_v2_job")
    given = {pair for kind in kinds for each in context.resources(kind) for pair in _given(each)}
    found = sorted({name for name, value in given if SECRET_NAME.search(name) or IN_A_URL.search(value)})
    return judged([f"{name} in a service's environment" for name in found], f"{len(given)} variables")


def _given(value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        own = [(str(each["name"]), str(each.get("value"))) for each in value.get("env") or []]
        return own + [pair for each in value.values() for pair in _given(each)]
    return [pair for each in value for pair in _given(each)] if isinstance(value, list) else []


@item(BEFORE, "The configuration is valid and can be planned")
def planned(context: Context) -> Finding:
    """`terraform validate` and `plan`, with no account."""
    count = len(context.plan["planned_values"]["root_module"]["resources"]) if context.plan else 0
    return passed(f"{count} resources") if context.variables and count else Finding(Status.FAIL, "an empty plan")


@item(BEFORE, "Database encryption, private address, and deletion protection")
def database(context: Context) -> Finding:
    """In the plan."""
    found = context.resources("google_sql_database_instance")
    problems = [] if found else ["there is none"]
    for each in found:
        if not each.get("encryption_key_name"):
            problems.append(f"{each['name']}: not under our key")
        (settings,) = each["settings"]
        (network,) = settings["ip_configuration"]
        if network.get("ipv4_enabled") or not each["deletion_protection"]:
            problems.append(f"{each['name']}: a public address, or no deletion protection")
        if network.get("ssl_mode") not in ("ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"):
            problems.append(f"{each['name']}: connections without TLS")
    return judged(problems, "every Cloud SQL instance of the plan")


@item(BEFORE, "Firewall: 443 alone from outside, all else denied")
def firewall(context: Context) -> Finding:
    """In the plan."""
    rules = [each for each in context.resources("google_compute_firewall") if each.get("direction") == "INGRESS"]
    outside = [each for each in rules if _anybody(each)]
    denied = [each for each in outside if each.get("deny")]
    opened = [port for each in outside for allow in each.get("allow") or [] for port in allow.get("ports") or ["all"]]
    problems = [f"port {port} is open" for port in opened if port != "443"] + ([] if denied else ["nothing is denied"])
    return judged(problems, f"{len(rules)} rules of the plan")


def _anybody(rule: dict[str, Any]) -> bool:
    ranges = rule.get("source_ranges") or []
    named = ranges or rule.get("source_tags") or rule.get("source_service_accounts")
    return not named or bool({"0.0.0.0/0", "::/0"} & {*ranges})


@item(BEFORE, "The code and a running system scanned (SAST, DAST)")
def code_scan(context: Context) -> Finding:
    """Nothing here attacks a deployment: the pipelines do, and end where a scanner finds something."""
    places = "make lint and make audit in cloudbuild.yaml, ZAP and Nuclei in delivery/staging.yaml"
    return Finding(Status.UNKNOWN, f"ask the last builds of {context.environment}: {places}")


@item(BEFORE, "Static files")
def static_files(context: Context) -> Finding:
    """There are none to collect: what a browser gets lies in the image, and no bucket is public."""
    buckets = context.resources("google_storage_bucket")
    public = [each["name"] for each in buckets if each.get("public_access_prevention") != "enforced"]
    return judged([f"{name} may be public" for name in public], f"none are used; {len(buckets)} buckets, none public")


@item(BEFORE, "Migrations can run under the release that runs")
def migrations(context: Context) -> Finding:
    """The previous release is named, so that tests/release runs it on the new schema."""
    project = tomllib.loads((context.root / "pyproject.toml").read_text())
    named = project["tool"].get("dev-context", {}).get("previous-release", "")
    test = context.root / "tests" / "release" / "test_previous_release.py"
    if not re.fullmatch(r"[0-9a-f]{40}", named) or not test.exists():
        return Finding(Status.FAIL, "pyproject.toml names no previous release")
    return Finding(Status.UNKNOWN, f"run it: pytest {test.relative_to(context.root)} ({named[:7]} on the new schema)")


@item(BEFORE, "Disaster recovery plan documented, with measured times")
def recovery(context: Context) -> Finding:
    """The run book and the last drill's figures."""
    return _documents(context, {"docs/runbooks/restore.md": "point-in-time", "docs/restore-drill.md": "RTO"})


@item(BEFORE, "Rollback plan ready")
def rollback(context: Context) -> Finding:
    """The run book."""
    return _documents(context, {"docs/runbooks/rollback.md": "--back", "docs/runbooks/deploy.md": "tools.release"})


def _documents(context: Context, wanted: dict[str, str]) -> Finding:
    problems = []
    for path, word in wanted.items():
        file = context.root / path
        if not file.exists() or word not in file.read_text():
            problems.append(f"{path} does not say {word}")
    return judged(problems, ", ".join(wanted))

"""What a stack tells about itself: the environment of its functions, and stack.json for whoever uses it."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local import postgres
from local.durable import replace
from local.layout import HOST, KEY, PROJECT, REGION, Layout, administrators, jobs, login_role, logins, service_account

ANNOUNCEMENT = "stack.json"
DEMO = "demo.json"
INSTANCE = f"{PROJECT}:{REGION}:main"
EXPORT_BUCKET = f"{PROJECT}-exports"
LEDGER_BUCKET = f"{PROJECT}-ledger"
ANCHOR_BUCKET = f"{PROJECT}-anchors"
FOREIGN = ("CLOUDSDK_", "GOOGLE_", "GCE_", "GRANIAN_", "GRPC_", "PG", "PYTHON", "K_", "FUNCTION_", "WERKZEUG_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of `make run`, so that every setting can be given there, without what steers libraries."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(FOREIGN) and name.lower() not in PROXIES and name != "PYTHONPATH"
    }
    return kept | {"NO_PROXY": "*", "PYTHONUNBUFFERED": "1"}


def login_passwords(root: Path) -> dict[str, str]:
    """Login role → password, made once, in `<root>/postgres/logins.json`; provisioning sets them in the database."""
    path = root / "postgres" / "logins.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    absent = [role for role in map(login_role, [*logins(), *administrators()]) if role not in known]
    if absent:
        known |= {role: secrets.token_urlsafe(24) for role in absent}
        replace(path, json.dumps(known, indent=1).encode())
    return known


def dsn(layout: Layout, service: str) -> str:
    """The libpq URL of a service's login role over loopback."""
    login = login_role(service)
    password = login_passwords(layout.path())[login]
    return f"postgresql://{quote(login, safe='')}:{password}@{HOST}:{layout.ports['postgres']}/{postgres.DATABASE}"


def database_url(layout: Layout, service: str, route: str) -> str:
    """Where a function finds its database: `direct` on loopback, or behind the Cloud SQL door by the `connector`."""
    if route == "connector":
        return f"cloudsql://{INSTANCE}/{postgres.DATABASE}?user={quote(login_role(service), safe='')}"
    if route != "direct":
        raise ValueError(f"DATABASE_ROUTE={route} is neither direct nor connector")
    return dsn(layout, service)


def telemetry(layout: Layout, environ: Mapping[str, str]) -> str:
    """Where traces and metrics go: the stack's own stand-in, another place that the environment names, or nowhere."""
    if environ.get("TELEMETRY", "on") == "off" or "telemetry" not in layout.ports:
        return ""
    return environ.get("TELEMETRY_ENDPOINT", layout.url("telemetry"))


def sentry(layout: Layout, environ: Mapping[str, str]) -> str:
    """Where errors are told: a DSN that the environment names, the stack's own stand-in, or `none`."""
    here = layout.url("telemetry") if "telemetry" in layout.ports else "-"
    given = environ.get("SENTRY", "on")
    if given not in ("on", "off"):
        return given
    return here if given == "on" and telemetry(layout, environ) == here else "none"


def trace_ratio(environ: Mapping[str, str]) -> str:
    """The share of traces that is kept: at one machine all."""
    return environ.get("TRACE_SAMPLE_RATIO", "1")


def job_environment(layout: Layout, account: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Of a job that needs the database alone: its log-in, by the route of the functions."""
    metadata = f"{HOST}:{layout.ports[f'metadata:{account}']}"
    url = database_url(layout, account, environ.get("DATABASE_ROUTE", "direct"))
    return inherited(environ) | {
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_IP": metadata,
        "SQLADMIN_ENDPOINT": layout.url("cloudsql"),
        "DATABASE_ADMIN_URL": url,
        "DATABASE_URL": url,
    }


def cloud_job_environment(layout: Layout, job: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Every setting of a job of the catalog, as terraform/settings.tf gives them; its rights are its account's."""
    account = str(jobs()[job]["account"])
    if account in logins():
        return function_environment(layout, account, environ)
    shared = function_environment(layout, next(iter(logins())), environ) | job_environment(layout, account, environ)
    own = {"SERVICE": job, "SERVICE_URL": layout.url("gateway"), "SERVICE_ACCOUNT": service_account(account)}
    return shared | own | {"SECRETS_DIR": str(layout.path("mounts", job))}


def function_environment(layout: Layout, service: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Every setting of one process of a function or a workload. A workload has no address but the public one."""
    entry = logins()[service]
    metadata = f"{HOST}:{layout.ports[f'metadata:{service}']}"
    return inherited(environ) | {
        "SERVICE": service,
        "PROJECT_ID": PROJECT,
        "REGION": REGION,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "GCE_METADATA_HOST": metadata,
        "GCE_METADATA_IP": metadata,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(layout.path("tls", "ca.pem")),
        "DATABASE_URL": database_url(layout, service, environ.get("DATABASE_ROUTE", "direct")),
        "DATABASE_POOL": str(entry["concurrency"] if "concurrency" in entry else entry["pool"]),
        "SECRETS_DIR": str(layout.path("mounts", service)),
        "SQLADMIN_ENDPOINT": layout.url("cloudsql"),
        "SECRETMANAGER_ENDPOINT": f"{HOST}:{layout.ports['secrets']}",
        "CLOUDTASKS_ENDPOINT": f"{HOST}:{layout.ports['tasks']}",
        "STORAGE_ENDPOINT": layout.url("storage"),
        "IAMCREDENTIALS_ENDPOINT": layout.url("metadata:gateway"),
        "WORKFLOWS_ENDPOINT": layout.url("workflows"),
        "KMS_ENDPOINT": layout.url("kms"),
        "KMS_KEY": KEY,
        "LOGGING_ENDPOINT": layout.url("logging"),
        "TELEMETRY_ENDPOINT": telemetry(layout, environ),
        "TRACE_SAMPLE_RATIO": trace_ratio(environ),
        "METRICS_SECONDS": environ.get("METRICS_SECONDS", "10"),
        "COMPUTE_ENDPOINT": layout.url("compute"),
        "TASKS_ACCOUNT": service_account("tasks"),
        "WORKFLOWS_ACCOUNT": service_account("workflows"),
        "SCHEDULER_ACCOUNT": service_account("scheduler"),
        "ALERTS_ACCOUNT": service_account("alerts"),
        "SERVICE_ACCOUNT": service_account(service),
        "IDENTITY_ISSUER": "https://accounts.google.com",
        "IDENTITY_JWKS_URL": layout.url("metadata:gateway") + "/certs",
        "PLATFORM_CHECKS_IDENTITY": environ.get("PLATFORM_CHECKS_IDENTITY", "false"),
        "PUBLIC_URL": layout.url("gateway"),
        "SERVICE_URL": layout.url(f"run:{service}" if f"run:{service}" in layout.ports else "gateway"),
        "AUTH_URL": layout.run_url("auth"),
        "EXPORT_BUCKET": EXPORT_BUCKET,
        "LEDGER_BUCKET": LEDGER_BUCKET,
        "ANCHOR_BUCKET": ANCHOR_BUCKET,
        "SMTP_URL": f"smtp://{HOST}:{layout.ports['smtp']}",
        "MAIL_FROM": environ.get("MAIL_FROM", "no-reply@example.com"),
        "SMS_ENDPOINT": layout.url("sms"),
        "SMS_FROM": environ.get("SMS_FROM", "+15005550006"),
        "VALKEY_URL": f"redis://{HOST}:{layout.ports['valkey']}",
    }


def describe(layout: Layout, pids: Mapping[str, int]) -> dict[str, Any]:
    """The content of stack.json. `demo` is null until there is a demo account."""
    from local import keys  # slow to import, and whoever only wants an environment needs none

    root = layout.path()
    demo = root / DEMO
    services = {str(entry["role"]): service for service, entry in logins().items()}
    admin = {"admin": postgres.admin_dsn(root, layout.ports["postgres"])}
    return {
        "api": layout.url("gateway"),
        "mail": layout.url("mail"),
        "status": layout.url("status"),
        "mail_dir": str(layout.path("mail")),
        "sms": str(layout.path("sms.jsonl")),
        "storage_dir": str(layout.path("storage")),
        "postgres": admin | {role: dsn(layout, service) for role, service in services.items()},
        "valkey": f"redis://{HOST}:{layout.ports['valkey']}",
        "jwt_keyring": str(layout.path("keys", "jwt-keyring.json")),
        "context_key": str(keys.context_keys(root)),
        "pids": dict(pids),
        "demo": json.loads(demo.read_text()) if demo.exists() else None,
    }


def publish(layout: Layout, pids: Mapping[str, int]) -> None:
    """Replace stack.json."""
    replace(layout.path(ANNOUNCEMENT), (json.dumps(describe(layout, pids), indent=1) + os.linesep).encode())

"""Every setting, typed, read once from the environment; a missing one stops the process by its name."""

import os
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any


class MissingSetting(SystemExit):
    """A setting without a default is not in the environment."""


@dataclass(frozen=True)
class Settings:
    """Names in the environment are the field names in upper case. Durations are in seconds."""

    service: str
    database_url: str
    secrets_dir: str
    public_url: str
    service_url: str

    project_id: str = ""
    region: str = ""
    database_pool: int = 8
    statement_timeout_seconds: int = 10
    identity_issuer: str = "https://accounts.google.com"
    identity_jwks_url: str = "https://www.googleapis.com/oauth2/v3/certs"
    platform_checks_identity: bool = False
    bearer_header: str = "X-Forwarded-Authorization"
    cors_origins: str = ""
    oidc_providers: str = ""
    trusted_issuers: str = ""
    processors: str = ""

    sqladmin_endpoint: str = "https://sqladmin.googleapis.com"
    secretmanager_endpoint: str = "secretmanager.googleapis.com"
    cloudtasks_endpoint: str = "cloudtasks.googleapis.com"
    storage_endpoint: str = "https://storage.googleapis.com"
    iamcredentials_endpoint: str = "https://iamcredentials.googleapis.com"
    workflows_endpoint: str = "https://workflowexecutions.googleapis.com"
    logging_endpoint: str = "https://logging.googleapis.com"
    kms_endpoint: str = "https://cloudkms.googleapis.com"
    kms_key: str = ""
    compute_endpoint: str = "https://compute.googleapis.com"
    security_policy: str = "edge"
    block_seconds: int = 3600
    never_blocked: str = ""
    failed_log_ins_a_minute: int = 5
    tasks_queue: str = "jobs"
    mails_queue: str = "mails"
    tasks_account: str = ""
    workflows_account: str = ""
    scheduler_account: str = ""
    alerts_account: str = ""
    service_account: str = ""
    auth_url: str = ""
    export_bucket: str = ""
    ledger_bucket: str = ""
    anchor_bucket: str = ""
    smtp_url: str = ""
    mail_from: str = "no-reply@example.com"
    mail_provider: str = ""
    operator_name: str = ""
    operator_contact: str = ""
    operator_representative: str = ""
    dpo_contact: str = ""
    supervisory_authority: str = ""
    privacy_mail: str = ""
    security_contact: str = ""
    disclosure_policy: str = ""
    sms_endpoint: str = "https://api.twilio.com"
    sms_from: str = ""
    sms_prefixes: str = ""
    valkey_url: str = ""
    valkey_ca: str = ""
    valkey_iam: bool = False
    telemetry_endpoint: str = ""
    trace_sample_ratio: float = 0.1
    metrics_seconds: int = 60
    k_revision: str = ""
    release: str = ""

    rate_anonymous: str = "100/hour"
    rate_user: str = "1000/hour"
    rate_ip: str = "1000/minute"
    rate_organization: str = "10000/minute"
    rate_events: str = "60000/minute"

    host: str = "0.0.0.0"  # noqa: S104 - of a container
    port: int = 8080
    drain_seconds: int = 20
    session_idle_seconds: int = 1800
    streams_per_organization: int = 1000

    secrets_cache_seconds: int = 60
    key_rotation_seconds: int = 7_776_000
    key_settle_seconds: int = 3600
    key_version_seconds: int = 2_592_000
    jwt_algorithm: str = "HS256"
    access_token_seconds: int = 3600
    refresh_token_seconds: int = 604_800
    refresh_replay_seconds: int = 10
    family_seconds: int = 2_592_000
    step_up_seconds: int = 300
    verification_seconds: int = 86_400
    password_reset_seconds: int = 3600
    device_seconds: int = 31_536_000
    hashing_waiting: int = 5
    invitation_seconds: int = 604_800
    invitation_pause_seconds: int = 60
    invitations_per_hour: int = 200
    signed_url_seconds: int = 3600
    export_file_seconds: int = 604_800
    api_key_seconds: int = 7_776_000
    api_key_max_seconds: int = 31_622_400
    deletion_grace_user_seconds: int = 0
    deletion_grace_organization_seconds: int = 604_800
    job_silence_seconds: int = 900
    processor_pause_seconds: int = 10
    processor_patience_seconds: int = 259_200
    argon2_memory_kib: int = 19_456
    argon2_time_cost: int = 2
    argon2_parallelism: int = 1


def _read(kind: Any, text: str) -> Any:
    if kind is bool:
        return text.lower() in {"1", "true", "yes"}
    return kind(text)


@cache
def settings() -> Settings:
    """The process's settings. Raises MissingSetting with the name of the first one that is absent."""
    values: dict[str, Any] = {}
    for field in fields(Settings):
        text = os.environ.get(field.name.upper())
        if text is not None:
            values[field.name] = _read(field.type, text)
        elif field.default is MISSING:
            raise MissingSetting(f"setting {field.name.upper()} is missing: see docs/settings.md")
    return Settings(**values)


def document(value: str) -> Any:
    """What a setting says that names a YAML file, or is the YAML itself: a text of more than one line; None if empty.

    Raises OSError, ValueError.
    """
    if not value:
        return None
    import yaml  # noqa: PLC0415 - 20 ms, and most services are given none

    try:
        return yaml.safe_load(value if "\n" in value else Path(value).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def admin_url() -> str:
    """DATABASE_ADMIN_URL: the URL of a role that may create roles and databases, for migrations alone."""
    url = os.environ.get("DATABASE_ADMIN_URL")
    if not url:
        raise MissingSetting("setting DATABASE_ADMIN_URL is missing: see docs/settings.md")
    return url


def sqladmin_endpoint() -> str:
    """SQLADMIN_ENDPOINT for a command that needs no other setting of the functions."""
    return os.environ.get("SQLADMIN_ENDPOINT", Settings.sqladmin_endpoint)


def operator_id() -> str | None:
    """OPERATOR_ID, or else the execution of the Cloud Run job: Google's audit log says who started it."""
    return os.environ.get("OPERATOR_ID") or os.environ.get("CLOUD_RUN_EXECUTION") or None


def job_silence_seconds() -> int:
    """JOB_SILENCE_SECONDS for a command that needs no other setting of the functions."""
    return int(os.environ.get("JOB_SILENCE_SECONDS", Settings.job_silence_seconds))


def provision_sources() -> tuple[str, str]:
    """SECRETS_DIR and LOGIN_PATTERN, for migrations.provision alone."""
    folder = os.environ.get("SECRETS_DIR")
    if not folder:
        raise MissingSetting("setting SECRETS_DIR is missing: see docs/settings.md")
    return folder, os.environ.get("LOGIN_PATTERN", "{service}")

"""Who may do what: the grants that terraform/iam.tf makes of the same catalog, for the stand-ins to enforce.

An account that the cloud would not have (a test's own) stands for a person with every right: nothing is refused to it.
"""

import json
import sys
from functools import cache
from typing import Any

from functions.keys.policies import WRAPPED
from local.layout import AGENTS, jobs, logins, service_account

# Permissions on objects by the right of the catalog: objectViewer, objectCreator, a role of our own, objectUser.
RIGHTS = {
    "read": {"get", "list"},
    "create": {"create"},
    "remove": {"list", "delete"},
    "manage": {"get", "list", "create", "update", "delete"},
}


def entries() -> list[tuple[str, dict[str, Any]]]:
    """Every entry of the catalog with the account that has its rights; an account may have several."""
    return [*logins().items(), *((str(job["account"]), job) for job in jobs().values())]


@cache
def known() -> frozenset[str]:
    """The e-mails of all accounts that the cloud has."""
    return frozenset(map(service_account, (*(name for name, _ in entries()), *AGENTS)))


@cache
def queues() -> dict[str, set[str]]:
    """Account → the queues that it may fill (roles/cloudtasks.enqueuer)."""
    return {service_account(name): set(entry["queues"]) for name, entry in entries() if "queues" in entry}


@cache
def objects() -> dict[tuple[str, str], set[str]]:
    """Account and bucket key → permissions on its objects."""
    found: dict[tuple[str, str], set[str]] = {}
    for name, entry in entries():
        for bucket, rights in entry.get("buckets", {}).items():
            found.setdefault((service_account(name), bucket), set()).update(*(RIGHTS[right] for right in rights))
    return found


@cache
def callers() -> frozenset[str]:
    """The accounts that call services and have no right beside: of the gateway, the queues, workflows and schedule."""
    return frozenset(map(service_account, AGENTS))


@cache
def having(field: str) -> frozenset[str]:
    """The accounts whose entry says so: signs_urls, reads_logs, secret_writer, blocks."""
    return frozenset(service_account(name) for name, entry in entries() if entry.get(field))


@cache
def sending() -> frozenset[str]:
    """The accounts that may send traces and metrics: whoever serves requests."""
    return frozenset(map(service_account, logins()))


@cache
def opening() -> frozenset[str]:
    """The accounts that read a wrapped ring: they decrypt with the key of the fields."""
    return frozenset(service_account(name) for name, entry in entries() if {*WRAPPED} & {*entry["secrets"]})


@cache
def secrets() -> dict[str, set[str]]:
    """Account → the secrets that it may access; without those of `secret_writer`, who has its own rule."""
    context = {f"context-key-{entry['role']}" for entry in logins().values()}
    found: dict[str, set[str]] = {email: set() for email in known() - having("secret_writer")}
    for name, entry in entries():
        if service_account(name) in found:
            own = {f"context-key-{entry['role']}"} if "role" in entry else set()
            found[service_account(name)] |= {*entry["secrets"], *own, *(context if entry.get("context_keys") else ())}
    return found


def may_enqueue(caller: str, queue: str) -> bool:
    """Whether it may create tasks in a queue, by its short name."""
    return caller not in known() or queue in queues().get(caller, ())


def may_touch(caller: str, bucket: str, permission: str) -> bool:
    """Whether it has a permission (get, list, create, update, delete) on the objects of a bucket, by its key.

    A bucket that no entry names is a test's own.
    """
    named = {bucket for _, bucket in objects()}
    return caller not in known() or bucket not in named or permission in objects().get((caller, bucket), ())


def refuse(caller: str, permission: str, resource: str) -> None:
    """Note that somebody asked for what it may not: the catalog says too little, or it is an attack."""
    line = {"severity": "WARNING", "message": "denied by IAM", "caller": caller, "permission": permission}
    sys.stderr.write(json.dumps({**line, "resource": resource}) + "\n")
    sys.stderr.flush()

"""The services of a stack: what the supervisor says, what the kernel says, and whether they answer."""

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local.layout import HOST, Layout, catalog, replicas
from local.standing import Standing, told
from local.status.processes import Usage, usage

ANSWER_SECONDS = 1.0
ASK_SECONDS = 10.0  # between two questions to the same service
ASKED_TOGETHER = 12  # a stack in which nobody answers is told of within seconds
MUTE = ("postgres",)  # it logs whoever connects and says nothing; the facts of the database tell of it
PLAYS = {  # stand-in: group, what it plays
    "gateway": ("edge", "Load balancer, API Gateway, Cloud Run’s fronts"),
    "postgres": ("data", "PostgreSQL 18"),
    "valkey": ("data", "Valkey"),
    "storage": ("data", "Cloud Storage"),
    "tasks": ("async", "Cloud Tasks"),
    "workflows": ("async", "Workflows"),
    "scheduler": ("async", "Cloud Scheduler"),
    "alerts": ("async", "Monitoring, Pub/Sub"),
    "mail": ("outside", "Mail catcher"),
    "sms": ("outside", "SMS catcher"),
    "metadata": ("platform", "Metadata servers, IAM"),
    "secrets": ("platform", "Secret Manager"),
    "kms": ("platform", "Cloud KMS"),
    "cloudsql": ("platform", "Cloud SQL’s door"),
    "logging": ("platform", "Cloud Logging"),
    "telemetry": ("platform", "Cloud Trace, Monitoring"),
    "sentry": ("platform", "Sentry"),
    "status": ("platform", "This page"),
}


class Services:
    """One look after another; what the processor did in between is the share that is shown."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.functions = {name: entry["ingress"] for name, entry in catalog().items()}
        self.replicas = set(replicas())
        self.before: dict[int, tuple[float, float]] = {}  # group: when, seconds of processor time
        self.answers: dict[str, tuple[float, dict[str, Any]]] = {}

    def read(self) -> dict[str, Any]:
        """The stack and each service."""
        stack = told(Path(self.layout.root))
        if stack is None:
            return {"began": None, "ready_seconds": None, "services": []}
        used = usage({each.pid for each in stack.services if each.pid})
        self._ask([each for each in stack.services if _can_answer(each, used.get(each.pid or 0, Usage()))])
        rows = [self._shown(each, used) for each in stack.services]
        return {"began": stack.began, "ready_seconds": stack.ready_seconds, "services": rows}

    def _shown(self, one: Standing, used: dict[int, Usage]) -> dict[str, Any]:
        found = used.get(one.pid or 0, Usage())
        group, plays = self._part(one)
        return {
            "name": one.name,
            "group": group,
            "plays": plays,
            "state": "paused" if found.stopped and found.processes else one.state,
            "pid": one.pid,
            "restarts": max(0, one.starts - 1),
            "began": one.began,
            "last_end": one.last_end,
            "ports": list(one.ports),
            "memory": found.memory,
            "cpu": self._share(one.pid, found),
            "processes": found.processes,
            "health": self._health(one, found),
        }

    def _part(self, one: Standing) -> tuple[str, str]:
        if one.step:
            return "step", "Runs once at the start"
        if one.name in self.functions:
            return ("internal" if self.functions[one.name] == "internal" else "function"), "Cloud Run"
        if one.name in self.replicas:
            return "workload", "GKE"
        return PLAYS.get(one.name, ("platform", ""))

    def _share(self, pid: int | None, found: Usage) -> float:
        """Processor time since the last look, in shares of one processor."""
        if pid is None:
            return 0.0
        now = time.monotonic()
        when, seconds = self.before.get(pid, (now, found.seconds))
        self.before[pid] = (now, found.seconds)
        return round(max(0.0, (found.seconds - seconds) / (now - when)), 3) if now > when else 0.0

    def _ask(self, able: list[Standing]) -> None:
        """Ask those who were not asked for a while, all at once; one that was away is asked anew."""
        now = time.monotonic()
        self.answers = {one.name: self.answers[one.name] for one in able if one.name in self.answers}
        due = [one for one in able if now - self.answers.get(one.name, (-ASK_SECONDS, {}))[0] >= ASK_SECONDS]
        if due:
            with ThreadPoolExecutor(ASKED_TOGETHER) as together:
                answers = list(together.map(ask, due))
            self.answers |= {one.name: (time.monotonic(), answer) for one, answer in zip(due, answers, strict=True)}

    def _health(self, one: Standing, found: Usage) -> dict[str, Any]:
        if _can_answer(one, found):
            return self.answers[one.name][1]
        return {"answers": False if found.stopped else None, "milliseconds": None, "checks": {}}


def _can_answer(one: Standing, found: Usage) -> bool:
    return not one.step and one.state == "ready" and not found.stopped and one.name not in MUTE


def ask(one: Standing) -> dict[str, Any]:
    """By its health address, or else by connecting to its ports."""
    began = time.monotonic()
    fine, checks = _get(one.health) if one.health else (all(map(_listens, one.ports)), {})
    return {"answers": fine, "milliseconds": round((time.monotonic() - began) * 1000, 1), "checks": checks}


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(ANSWER_SECONDS)
        return probe.connect_ex((HOST, port)) == 0


def _get(url: str) -> tuple[bool, dict[str, str]]:
    """Whether it answers 200, and the checks that it names."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        checks = document.get("checks", {}) if isinstance(document, dict) else {}
        return answer.status == 200, {str(name): str(value) for name, value in checks.items()}
    except (OSError, http.client.HTTPException, ValueError):
        return False, {}
    finally:
        connection.close()

"""Google's APIs as the checklist asks them, over HTTP, all well; a test spoils what it is about."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.loopback import serving
from tools.terraform.plan import CHECKOUT

IMAGE = "europe-west1-docker.pkg.dev/p/dev-context/dev-context@sha256:" + "ab" * 32
TYPE = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
CATALOG = yaml.safe_load((CHECKOUT / "functions" / "catalog.yaml").read_text())


def _point(backends: int) -> dict[str, Any]:
    return {"interval": {"endTime": "2026-11-23T12:00:00Z"}, "value": {"int64Value": str(backends)}}


def well() -> dict[str, Any]:
    """Path → answer of a project in which everything is as it should be."""
    now = datetime.now(UTC)
    backup: dict[str, Any] = {"enabled": True, "pointInTimeRecoveryEnabled": True, "transactionLogRetentionDays": 7}
    backup["backupRetentionSettings"] = {"retainedBackups": 7}
    policy = {"displayName": "failed log-ins", "enabled": True, "notificationChannels": ["pager"]}
    answers: dict[str, Any] = {
        "v1/projects/p/instances/main": {
            "settings": {"backupConfiguration": backup},
            "diskEncryptionConfiguration": {"kmsKeyName": "projects/p/keys/database"},
        },
        "v1/projects/p/instances/main/backupRuns": {
            "items": [
                {"status": "FAILED", "endTime": now.isoformat()},
                {"status": "SUCCESSFUL", "endTime": (now - timedelta(hours=3)).isoformat()},
            ]
        },
        "v3/projects/p/alertPolicies": {"alertPolicies": [policy] * 60},
        "v3/projects/p/uptimeCheckConfigs": {"uptimeCheckConfigs": [{}]},
        "v3/projects/p/timeSeries": {"timeSeries": [{"points": [_point(20)]}, {"points": [_point(30)]}]},
        "v2/entries:list": {"entries": [{}]},
        "v1/projects/p/occurrences": {
            "DISCOVERY": {"occurrences": [{"discovery": {"analysisStatus": "FINISHED_SUCCESS"}}]},
            "VULNERABILITY": {
                "occurrences": [{"noteName": "n/CVE-1", "vulnerability": {"effectiveSeverity": "LOW"}}],
                "nextPageToken": "2",
            },
            "VULNERABILITY 2": {"occurrences": []},
        },
        "v2/projects/staging/locations/europe-west1/jobs/migrate/executions": {
            "executions": [{"succeededCount": 1, "template": {"containers": [{"image": IMAGE}]}}]
        },
    }
    for name in CATALOG["services"]:
        answers[f"v2/projects/p/locations/europe-west1/services/{name}"] = {
            "template": {"containers": [{"image": IMAGE}]},
            "terminalCondition": {"state": "CONDITION_SUCCEEDED"},
            "traffic": [
                {"type": TYPE, "revision": "b", "percent": 100, "tag": "live"},
                {"type": TYPE, "revision": "a", "tag": "previous"},
            ],
        }
    return answers


class _Handler(BaseHTTPRequestHandler):
    answers: dict[str, Any]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        found = self.answers.get(url.path.lstrip("/"))
        if url.path.endswith("/occurrences") and found:
            query = parse_qs(url.query)
            kind = query["filter"][0].split('"')[1]
            found = found[f"{kind} {query['pageToken'][0]}" if "pageToken" in query else kind]
        self._send(found)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = self.answers.get(self.path.lstrip("/"))
        self._send({} if "severity>=ERROR" in asked["filter"] and found and not found.get("errors") else found)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _send(self, answer: Any) -> None:
        text = json.dumps(answer).encode()
        self.send_response(403 if answer is None else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def apis(answers: dict[str, Any]) -> Iterator[str]:
    """The APIs on loopback."""
    with serving(type("Handler", (_Handler,), {"answers": answers})) as url:
        yield url

"""As much of Cloud Run's Admin API v2 as a release sees: revisions, traffic by name and tag, operations that take time.

An image whose digest begins with `bad` never becomes ready; `ill`: it starts, and its health says 503; `late`: its
health says 503 as soon as a quarter of the traffic goes to it; `broken`: jobs that run it fail.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests import loopback

PARENT = "projects/p/locations/europe-west1"
TYPE = "TRAFFIC_TARGET_ALLOCATION_TYPE_"
TOKEN = "Bearer operator"
LOOKS = 2  # an operation is done when it has been looked at so often


class Refused(Exception):
    """An error of Google's: status and message."""


class RunAdmin:
    """The state, and in `acts` what was done, in order."""

    def __init__(self, services: dict[str, str], jobs: list[str], image: str) -> None:
        self.url = ""
        self.acts: list[str] = []
        self.deployed: list[dict[str, int]] = []  # who had the traffic when a revision had just been made
        self.services: dict[str, dict[str, Any]] = {}
        self.jobs = {name: _job(name, image) for name in jobs}
        self.images: dict[str, str] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.executions: dict[str, dict[str, Any]] = {}
        self.writes_left: int | None = None  # so many of services, then nothing is answered any more
        self.hiccups = 0  # so many looks meet a 503
        self.refuses = ""  # the service or job whose next write is not taken
        for name, ingress in services.items():
            self.services[name] = {
                "name": f"{PARENT}/services/{name}",
                "ingress": ingress,
                "template": {"containers": [{"image": image}], "serviceAccount": f"dc-{name}@p"},
                "traffic": [{"type": TYPE + "LATEST", "percent": 100}],
                "generation": 0,
            }
            self._revise(name)

    def share(self, name: str) -> dict[str, int]:
        """Image → percent of the traffic of a service."""
        shares: dict[str, int] = {}
        for target in self.services[name]["trafficStatuses"]:
            if target["percent"]:
                image = self.images[target["revision"]]
                shares[image] = shares.get(image, 0) + target["percent"]
        return shares

    def patch(self, name: str, body: dict[str, Any], mask: str) -> dict[str, Any]:
        """services.patch"""
        service = self.services[name]
        if body.get("etag") != service["etag"]:
            raise Refused(409, "ABORTED: the service has changed since it was read")
        fields = mask.split(",")
        if not set(fields) <= {"template", "traffic"}:
            raise Refused(400, f"updateMask {mask}")
        _summed(body["traffic"])
        if "traffic" in fields:
            unknown = [
                t for t in body["traffic"] if t["type"] == TYPE + "REVISION" and t["revision"] not in self.images
            ]
            if unknown:
                raise Refused(400, f"no such revision: {unknown}")
            service["traffic"] = body["traffic"]
        if "template" in fields and body["template"] != service["template"]:
            if "revision" in body["template"]:
                raise Refused(409, "a revision of this name exists")
            service["template"] = body["template"]
            self._revise(name)
            self.acts.append(f"deploy {name}")
            self.deployed.append(self.share(name))
        else:
            self.acts.append(f"traffic {name} {_told(service['traffic'])}")
        self._serve(name)
        return service

    def run(self, name: str) -> dict[str, Any]:
        """jobs.run"""
        image = self.jobs[name]["template"]["template"]["containers"][0]["image"]
        self.acts.append(f"run {name} {image.rsplit(':')[-1][:6]}")
        failed = "sha256:broken" in image
        path = f"{PARENT}/jobs/{name}/executions/{len(self.executions)}"
        execution = {"name": path, "taskCount": 1}
        ended = {"failedCount": 1} if failed else {"succeededCount": 1}
        self.executions[path] = execution | ended | {"completionTime": "2026-11-23T12:00:00Z"}
        return execution

    def health(self, name: str, tag: str) -> int:
        """The status under a tag's own address."""
        for target in self.services[name]["trafficStatuses"]:
            if target.get("tag") == tag:
                image = self.images[target["revision"]]
                overloaded = "sha256:late" in image and target["percent"] >= 25
                return 503 if "sha256:ill" in image or overloaded else 200
        return 404

    def operation(self, made: dict[str, Any]) -> dict[str, Any]:
        """Something that takes its time."""
        name = f"{PARENT}/operations/{len(self.operations)}"
        self.operations[name] = {"name": name, "done": True, "response": json.loads(json.dumps(made))}
        return {"name": name}

    def look(self, name: str) -> dict[str, Any]:
        """operations.get, or executions.get"""
        self.looks[name] = self.looks.get(name, 0) + 1
        if self.looks[name] < LOOKS:
            return {"name": name}
        return self.operations.get(name) or self.executions[name]

    def _revise(self, name: str) -> None:
        service = self.services[name]
        service["generation"] += 1
        revision = f"{name}-{service['generation']:05d}-abc"
        self.images[revision] = service["template"]["containers"][0]["image"]
        path = f"{service['name']}/revisions/{revision}"
        ready = "sha256:bad" not in self.images[revision]
        service["latestCreatedRevision"] = path
        if ready:
            service["latestReadyRevision"] = path
        service["terminalCondition"] = {
            "type": "Ready",
            "state": "CONDITION_SUCCEEDED" if ready else "CONDITION_FAILED",
        }
        self._serve(name)

    def _serve(self, name: str) -> None:
        service = self.services[name]
        service["etag"] = str(int(service.get("etag", "0")) + 1)
        service["uri"] = f"{self.url}/main/{name}"
        service["customAudiences"] = [f"https://{name}.example"]
        latest = service["latestReadyRevision"].rsplit("/", 1)[-1]
        service["trafficStatuses"] = [
            {"revision": target.get("revision") or latest, "percent": target.get("percent", 0)}
            | ({"tag": target["tag"], "uri": f"{self.url}/tag/{target['tag']}/{name}"} if "tag" in target else {})
            for target in service["traffic"]
        ]


def _job(name: str, image: str) -> dict[str, Any]:
    template = {"template": {"containers": [{"image": image}]}}
    return {"name": f"{PARENT}/jobs/{name}", "template": template}


def _summed(traffic: list[dict[str, Any]]) -> None:
    shares = [target.get("percent", 0) for target in traffic]
    if sum(shares) != 100:
        raise Refused(400, f"traffic sums up to {sum(shares)}")
    tags = [target["tag"] for target in traffic if "tag" in target]
    if len(tags) != len({*tags}):
        raise Refused(400, f"a tag stands twice: {tags}")


def _told(traffic: list[dict[str, Any]]) -> str:
    return " ".join(f"{target.get('revision', 'LATEST')}={target.get('percent', 0)}" for target in traffic)


class _Handler(BaseHTTPRequestHandler):
    admin: RunAdmin

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, answer = 200, self._routed(json.loads(body or "{}"))
        except Refused as error:
            status, message = error.args
            answer = {"error": {"message": message}}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _routed(self, body: dict[str, Any]) -> dict[str, Any]:
        url = urlsplit(self.path)
        if url.path.startswith("/tag/"):
            return self._health(*url.path.split("/")[2:4])
        path = url.path.removeprefix("/v2/")
        self._may(path)
        kind, name = path.removeprefix(f"{PARENT}/").split("/", 1)
        match (self.command, kind):
            case ("GET", "services"):
                return self.admin.services[name]
            case ("PATCH", "services"):
                return self.admin.operation(self.admin.patch(name, body, parse_qs(url.query)["updateMask"][0]))
            case ("POST", "jobs"):
                return self.admin.operation(self.admin.run(name.removesuffix(":run")))
            case ("PATCH", "jobs"):
                self.admin.jobs[name] = body
                return self.admin.operation(body)
            case ("GET", "jobs") if "/executions/" not in name:
                return self.admin.jobs[name]
            case _:
                return self.admin.look(path)

    def _may(self, path: str) -> None:
        if self.headers["Authorization"] != TOKEN:
            raise Refused(401, "no access token")
        if self.command == "GET" and self.admin.hiccups:
            self.admin.hiccups -= 1
            raise Refused(503, "in a moment")
        if self.admin.writes_left == 0:
            raise Refused(503, "nobody is there")
        if self.command == "PATCH" and path.endswith(f"/{self.admin.refuses}"):
            self.admin.refuses = ""
            raise Refused(503, "not now")
        if self.command == "PATCH" and "/services/" in path and self.admin.writes_left:
            self.admin.writes_left -= 1

    def _health(self, tag: str, name: str) -> dict[str, Any]:
        if self.headers["Authorization"] != f"Bearer for https://{name}.example":
            raise Refused(403, "no identity token for this audience")
        status = self.admin.health(name, tag)
        if status != 200:
            raise Refused(status, "unavailable")
        return {}


@contextmanager
def serving(admin: RunAdmin) -> Iterator[RunAdmin]:
    """The API on loopback."""
    with loopback.serving(type("Handler", (_Handler,), {"admin": admin})) as admin.url:
        yield admin

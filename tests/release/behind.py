"""What stands behind the functions: as much of API Gateway (v1), Kubernetes Engine (v1) and a cluster's own API as a
release sees, under one address. A digest that begins with `stuck` never becomes ready; a document with the word
`refused` is made, and not ACTIVE.
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import serving
from tests.release.run_admin import TOKEN, Refused

CONFIGS = "projects/p/locations/global/apis/dev-context/configs"
GATEWAY = "projects/p/locations/europe-west1/gateways/dev-context"
CLUSTER = "projects/p/locations/europe-west1/clusters/main"
DEPLOYMENT = "apis/apps/v1/namespaces/dev-context/deployments/sessions"
FIRST = "dev-context-20261123"
LOOKS = 2  # so often one looks before something is done


class Behind:
    """The state, and in `acts` what was done, in order."""

    def __init__(self, image: str, *, gateway: bool = True) -> None:
        self.url = ""
        self.acts: list[str] = []
        account = "projects/p/serviceAccounts/dc-gateway@p"
        self.configs: dict[str, dict[str, Any]] = {FIRST: {"gatewayServiceAccount": account, "state": "ACTIVE"}}
        self.gateway: dict[str, Any] | None = None
        if gateway:
            self.gateway = {"name": GATEWAY, "apiConfig": f"{CONFIGS}/{FIRST}", "labels": {"app": "dev-context"}}
        self.image = image
        self.annotations: dict[str, str] = {}
        self.generation = self.observed = 1
        self.looks = 0
        self.refused = "refused"
        self.failing = ""  # an act that answers 500

    @property
    def serving(self) -> str:
        """The config that the gateway leads to."""
        assert self.gateway is not None
        return str(self.gateway["apiConfig"]).rsplit("/", 1)[-1]

    def document(self, config: str) -> str:
        """What was sent for a config."""
        return b64decode(self.configs[config]["openapiDocuments"][0]["document"]["contents"]).decode()

    def answer(self, method: str, path: str, body: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
        """One request."""
        act = f"{method} {path.rsplit('/', 1)[-1]}"
        if act == self.failing:
            raise Refused(500, "it broke")
        if path == DEPLOYMENT:
            return self._patched(body) if method == "PATCH" else self._deployment()
        if path == CLUSTER:
            return {
                "controlPlaneEndpointsConfig": {"dnsEndpointConfig": {"endpoint": self.url.removeprefix("http://")}}
            }
        if path.startswith("projects/p/locations/global/operations/"):
            return {"name": path, "done": True, "response": self.configs.get(path.rsplit("/", 1)[-1], {})}
        if path == GATEWAY:
            return self._gateway(method, body, query)
        return self._config(method, path, body, query)

    def _gateway(self, method: str, body: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
        if self.gateway is None:
            raise Refused(404, "no such gateway")
        if method == "PATCH":
            (field,) = query["updateMask"]
            config = body["apiConfig"].rsplit("/", 1)[-1]
            if self.configs.get(config, {}).get("state") != "ACTIVE":
                raise Refused(400, "the config is not active")
            self.gateway |= {field: body[field]}
            self.acts.append(
                {"labels": f"note {body['labels'].get('previous')}", "apiConfig": f"gateway {config}"}[field]
            )
            return {"name": "projects/p/locations/global/operations/gateway"}
        return self.gateway

    def _config(self, method: str, path: str, body: dict[str, Any], query: dict[str, list[str]]) -> dict[str, Any]:
        name = path.removeprefix(CONFIGS).strip("/")
        if method == "POST":
            name = query["apiConfigId"][0]
            self.configs[name] = body
            self.configs[name]["state"] = "FAILED" if self.refused in self.document(name) else "ACTIVE"
        elif not name:
            return {"apiConfigs": [{"name": f"{CONFIGS}/{each}"} for each in self.configs]}
        elif name not in self.configs:
            raise Refused(404, "no such config")
        elif method == "GET":
            return self.configs[name]
        else:
            assert name != self.serving
            del self.configs[name]
        self.acts.append(f"{method} config")
        return {"name": f"projects/p/locations/global/operations/{name}"}

    def _patched(self, body: dict[str, Any]) -> dict[str, Any]:
        for name, text in body.get("metadata", {}).get("annotations", {}).items():
            self.annotations |= {name: text}
            if text is None:
                del self.annotations[name]
            self.acts.append("note sessions")
        if "spec" in body:
            (container,) = body["spec"]["template"]["spec"]["containers"]
            assert container["name"] == "sessions"
            self.image = container["image"]
            self.generation, self.looks = self.generation + 1, 0
            self.acts.append(f"sessions {self.image.rsplit(':')[-1][:2]}")
        return self._deployment()

    def _deployment(self) -> dict[str, Any]:
        self.looks += 1
        ready = self.looks > LOOKS and "sha256:stuck" not in self.image
        self.observed = self.generation if self.looks > 1 else self.observed
        status: dict[str, Any] = {"observedGeneration": self.observed, "replicas": 2 if ready else 3}
        status |= {"updatedReplicas": 2 if ready else 1, "availableReplicas": 2, "conditions": []}
        if "sha256:stuck" in self.image and self.looks > LOOKS:
            status["conditions"] = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "status": "False"}]
        containers = [{"name": "sessions", "image": self.image}]
        return {
            "metadata": {"generation": self.generation, "annotations": self.annotations},
            "spec": {"replicas": 2, "template": {"spec": {"containers": containers}}},
            "status": status,
        }


class _Handler(BaseHTTPRequestHandler):
    behind: Behind

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
        url = urlsplit(self.path)
        try:
            if self.headers["Authorization"] != TOKEN:
                raise Refused(401, "no access token")
            path = url.path.removeprefix("/v1/").strip("/")
            kubernetes = path == DEPLOYMENT and self.command == "PATCH"
            if kubernetes and self.headers["Content-Type"] != "application/strategic-merge-patch+json":
                raise Refused(415, "a patch of Kubernetes says which kind it is")
            status, answer = 200, self.behind.answer(self.command, path, body, parse_qs(url.query))
        except Refused as error:
            status, message = error.args
            answer = {"error": {"message": message}}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def standing(behind: Behind) -> Iterator[Behind]:
    """The APIs on loopback."""
    with serving(type("Handler", (_Handler,), {"behind": behind})) as behind.url:
        yield behind

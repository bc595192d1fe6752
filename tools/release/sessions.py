"""The session API's Deployment on GKE (Kubernetes REST): its image, and the roll-out that Kubernetes then makes.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tools.release.api import Api, Failed, Missing, Resource
from tools.release.parts import NOTHING, Served

CLUSTER = "main"
DEPLOYMENT = "apis/apps/v1/namespaces/dev-context/deployments/sessions"
PREVIOUS = "dev-context/previous-image"
PATCH = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class Sessions:
    """The Deployment of one cluster. `api`: Kubernetes Engine's, which says where the cluster's own answers."""

    api: Api
    project: str
    region: str
    say: Callable[[str], object]
    origin: str = "https://{}"  # of the cluster's API, by its name of Google's

    def serving(self) -> Served:
        """The image that the Deployment asks for, and the one that is noted as before it."""
        deployment = self._deployment()
        return Served(_image(deployment), _noted(deployment)) if deployment else NOTHING

    def note(self, before: str) -> None:
        """From here on `back` leads to this image; empty: to none. No pod is touched."""
        deployment = self._deployment()
        if deployment and _noted(deployment) != before:
            body = {"metadata": {"annotations": {PREVIOUS: before or None}}}
            self._cluster().call("PATCH", DEPLOYMENT, body, content_type=PATCH)

    def publish(self, image: str, addresses: Mapping[str, str]) -> None:
        """A rolling update to an image, to its end. Raises Failed; pods of the old one serve until then."""
        before = self.serving().now
        if not before:
            self.say("sessions: there is no Deployment")
        elif before != image:
            self._roll(image)
            self.say("sessions: the new image serves")

    def restore(self, before: str) -> None:
        """Back to the image that served when a release began."""
        if before and self.serving().now != before:
            self._roll(before)

    def back(self) -> None:
        """The image before the last release, if one is known. Done twice, it is as done once."""
        before = self.serving().before
        if not before:
            self.say("sessions: no earlier image is known; they stay as they are")
            return
        self.restore(before)
        self.say("sessions: the earlier image serves")

    def _cluster(self) -> Api:
        path = f"projects/{self.project}/locations/{self.region}/clusters/{CLUSTER}"
        found = self.api.call("GET", path)
        host = found["controlPlaneEndpointsConfig"]["dnsEndpointConfig"]["endpoint"]
        return replace(self.api, endpoint=self.origin.format(host), patience=900.0)

    def _deployment(self) -> Resource | None:
        try:
            return self._cluster().call("GET", DEPLOYMENT)
        except Missing:
            return None

    def _roll(self, image: str) -> None:
        cluster = self._cluster()
        body = {"spec": {"template": {"spec": {"containers": [{"name": "sessions", "image": image}]}}}}
        patched = cluster.call("PATCH", DEPLOYMENT, body, content_type=PATCH)
        cluster.until(patched, _rolled_out, DEPLOYMENT)


def _image(deployment: Resource) -> str:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return str(next(each["image"] for each in containers if each["name"] == "sessions"))


def _noted(deployment: Resource) -> str:
    return str(deployment["metadata"].get("annotations", {}).get(PREVIOUS, ""))


def _rolled_out(deployment: Resource) -> bool:
    """As `kubectl rollout status` judges. Raises Failed when Kubernetes has given up."""
    status = deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    for condition in status.get("conditions", []):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            raise Failed("sessions: the new pods did not become ready")
    updated = status.get("updatedReplicas", 0)
    wanted = deployment["spec"].get("replicas", 1)
    return bool(updated >= wanted and status.get("replicas", 0) <= updated <= status.get("availableReplicas", 0))

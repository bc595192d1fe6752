"""Cloud Run's Admin API (REST v2) as a release needs it: services with their traffic, jobs with their executions.

https://cloud.google.com/run/docs/reference/rest
"""

from collections.abc import Callable
from dataclasses import dataclass

import requests

from tools.release.api import ANSWER_SECONDS, Api, Failed, Resource

REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
READY = "CONDITION_SUCCEEDED"


@dataclass(frozen=True)
class Target:
    """A revision's share of the traffic in percent, and the tag under which it has an address of its own."""

    revision: str
    percent: int
    tag: str = ""

    def body(self) -> Resource:
        """As the API takes it."""
        target: Resource = {"type": REVISION, "revision": self.revision, "percent": self.percent}
        return target | ({"tag": self.tag} if self.tag else {})


@dataclass(frozen=True)
class Cloud:
    """The services and jobs of one region. `session` brings the caller's access token, `identity` an identity token
    for an audience. `poll`: seconds between two looks at an operation.
    """

    session: requests.Session
    identity: Callable[[str], str]
    project: str
    region: str
    endpoint: str = "https://run.googleapis.com"
    poll: float = 2.0

    @property
    def api(self) -> Api:
        """The API itself."""
        return Api(self.session, f"{self.endpoint}/v2", self.poll)

    def service(self, name: str) -> Resource:
        """A service as it is. Raises Failed."""
        return self.api.call("GET", self._path("services", name))

    def update(self, service: Resource, mask: str) -> Resource:
        """Write the fields of the mask and wait. Raises Failed, also where it has changed since it was read."""
        return self.api.done(self.api.call("PATCH", service["name"], service, updateMask=mask))

    def set_traffic(self, name: str, targets: list[Target]) -> Resource:
        """Give a service these targets, and wait until it is so."""
        service = self.service(name)
        return self.update(service | {"traffic": [target.body() for target in targets]}, "traffic")

    def set_job_image(self, name: str, image: str) -> None:
        """A job's next executions run this image."""
        job = self.api.call("GET", self._path("jobs", name))
        (container,) = job["template"]["template"]["containers"]
        if container["image"] != image:
            container["image"] = image
            self.api.done(self.api.call("PATCH", job["name"], job))

    def run_job(self, name: str) -> None:
        """Execute a job and wait for its end. Raises Failed where a task of it failed."""
        begun = self.api.done(self.api.call("POST", self._path("jobs", name) + ":run", {}))
        execution = self.api.until(begun, lambda found: "completionTime" in found)
        if execution.get("succeededCount", 0) < execution.get("taskCount", 1):
            raise Failed(f"job {name}: {execution['name']} did not succeed, see {execution.get('logUri', 'its log')}")

    def health(self, url: str, audience: str) -> int:
        """The status of `/health/ready` under an address; 0 where nothing answers."""
        headers = {"Authorization": f"Bearer {self.identity(audience)}"}
        try:
            answer = requests.get(f"{url}/health/ready", headers=headers, timeout=ANSWER_SECONDS, allow_redirects=False)
        except requests.RequestException:
            return 0
        return answer.status_code

    def _path(self, kind: str, name: str) -> str:
        return f"projects/{self.project}/locations/{self.region}/{kind}/{name}"

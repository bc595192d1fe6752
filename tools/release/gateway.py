"""API Gateway's document (REST v1): each is a config of its own, and the gateway is led to one of them.

https://cloud.google.com/api-gateway/docs/reference/rest
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tools.release.api import Api, Failed, Missing, Resource
from tools.release.parts import NOTHING, Served

NAME = "dev-context"
OURS = f"{NAME}-r-"  # configs of releases; Terraform's first one has another prefix
PREVIOUS = "previous"
ACTIVE = "ACTIVE"


@dataclass(frozen=True)
class Gateway:
    """The gateway of one region. `template`: terraform/gateway.json.tftpl, written from the route tables."""

    api: Api
    project: str
    region: str
    template: str
    say: Callable[[str], object]

    def publish(self, image: str, addresses: Mapping[str, str]) -> None:
        """Lead it to this commit's document, with these addresses of services. Raises Failed. Without a gateway
        (docs/decisions/0025) there is nothing to do.
        """
        gateway = self._gateway()
        if gateway is None:
            self.say("gateway: there is none")
            return
        document = self._document(addresses)
        wanted = OURS + hashlib.sha256(document).hexdigest()[:16]
        before = _id(gateway["apiConfig"])
        if wanted == before:
            self.say(f"gateway: {wanted} serves already")
            return
        self._config(wanted, document, before)
        self._lead(gateway, wanted)
        self.say(f"gateway: {wanted} serves")

    def back(self) -> None:
        """The document before the last release, if one is known. Done twice, it is as done once."""
        before = self.serving().before
        if not before:
            self.say("gateway: no earlier document is kept; it stays as it is")
            return
        self.restore(before)
        self.say(f"gateway: {before} serves")

    def serving(self) -> Served:
        """The id of the config that serves, and the one that is noted as before it."""
        gateway = self._gateway()
        return Served(_id(gateway["apiConfig"]), gateway.get("labels", {}).get(PREVIOUS, "")) if gateway else NOTHING

    def note(self, before: str) -> None:
        """From here on `back` leads to this config; empty: to none. What serves stays; others of releases go, also one
        that Google did not take, so that the next release makes it anew.
        """
        gateway = self._gateway()
        if gateway is None:
            return
        noted = gateway.get("labels", {}).get(PREVIOUS, "")
        self._forget({_id(gateway["apiConfig"]), noted, before})
        if noted != before:
            labels = {name: text for name, text in gateway.get("labels", {}).items() if name != PREVIOUS}
            self._change(gateway, labels=labels | ({PREVIOUS: before} if before else {}))

    def restore(self, config: str) -> None:
        """Back to the config that served when a release began."""
        gateway = self._gateway()
        if gateway and config and _id(gateway["apiConfig"]) != config:
            self._lead(gateway, config)

    def _gateway(self) -> Resource | None:
        try:
            return self.api.call("GET", f"projects/{self.project}/locations/{self.region}/gateways/{NAME}")
        except Missing:
            return None

    def _document(self, addresses: Mapping[str, str]) -> bytes:
        known = {name.replace("-", "_"): address for name, address in addresses.items()}
        return re.sub(r"\$\{(\w+)\}", lambda found: known[found[1]], self.template).encode()

    def _config(self, wanted: str, document: bytes, before: str) -> None:
        """Make the config, unless an earlier release has; it calls as the account of the one before."""
        try:
            made = self.api.call("GET", self._path(wanted))
        except Missing:
            account = self.api.call("GET", self._path(before))["gatewayServiceAccount"]
            contents = {"path": "openapi.json", "contents": b64encode(document).decode()}
            body = {"gatewayServiceAccount": account, "openapiDocuments": [{"document": contents}]}
            self.say(f"gateway: {wanted} is made")
            configs = self._path("").rstrip("/")
            made = self.api.done(self.api.call("POST", configs, body, apiConfigId=wanted))
        if made.get("state") != ACTIVE:
            raise Failed(f"gateway: {wanted} is {made.get('state', 'not there')}")

    def _lead(self, gateway: Resource, config: str) -> None:
        self._change(gateway, apiConfig=self._path(config))

    def _change(self, gateway: Resource, **fields: object) -> None:
        self.api.done(self.api.call("PATCH", gateway["name"], gateway | fields, updateMask=",".join(fields)))

    def _forget(self, kept: set[str]) -> None:
        """Configs of older releases: a project may have only so many. One that cannot go harms nobody."""
        try:
            found = self.api.call("GET", self._path("").rstrip("/"), pageSize="100").get("apiConfigs", [])
            for each in (_id(each["name"]) for each in found):
                if each.startswith(OURS) and each not in kept:
                    self.api.done(self.api.call("DELETE", self._path(each)))
        except Failed as error:
            self.say(f"gateway: an old document stays: {error}")

    def _path(self, config: str) -> str:
        return f"projects/{self.project}/locations/global/apis/{NAME}/configs/{config}"


def _id(name: str) -> str:
    return name.rsplit("/", 1)[-1]

"""The rendered objects of one environment, and the few ways in which the rules look at them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from local.layout import workloads

Object = dict[str, Any]
NAMESPACE = "dev-context"
SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Cluster:
    """What `kubectl apply -k` would create."""

    objects: list[Object]

    def kind(self, kind: str) -> list[Object]:
        """Every object of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str = "sessions") -> Object:
        """The object of a kind and name. Raises LookupError when there is none, or several."""
        found = [each for each in self.kind(kind) if each["metadata"]["name"] == name]
        if len(found) != 1:
            raise LookupError(f"{len(found)} objects are {kind} {name}")
        return found[0]

    @cached_property
    def deployment(self) -> Object:
        """The specification of the one Deployment."""
        (found,) = self.kind("Deployment")
        return dict(found["spec"])

    @cached_property
    def template(self) -> Object:
        """What a pod is made from."""
        return dict(self.deployment["template"])

    @cached_property
    def pod(self) -> Object:
        """A pod's specification."""
        return dict(self.template["spec"])

    @cached_property
    def container(self) -> Object:
        """Its one container."""
        (found,) = self.pod["containers"]
        return dict(found)

    @cached_property
    def containers(self) -> list[Object]:
        """Every container that a pod may ever have."""
        return [
            each for key in ("initContainers", "containers", "ephemeralContainers") for each in self.pod.get(key, ())
        ]

    @cached_property
    def settings(self) -> dict[str, str]:
        """The environment of a pod."""
        (found,) = self.kind("ConfigMap")
        return dict(found["data"])

    @cached_property
    def workload(self) -> Object:
        """What the catalog says of it."""
        return dict(workloads()["sessions"])


def seconds(text: str) -> int:
    """A duration of one unit, such as 15s or 1h, in seconds."""
    return int(text[:-1]) * SECONDS[text[-1]]


def mappings(given: Any) -> Iterator[Object]:
    """Every mapping within something, itself included."""
    if isinstance(given, dict):
        yield given
        for each in given.values():
            yield from mappings(each)
    elif isinstance(given, list):
        for each in given:
            yield from mappings(each)

"""What the stand-in of the Telemetry API has been sent."""

import json
import secrets
from typing import Any

from tests.conftest import Api, wait_until

CLIENT = "00f067aa0ba902b7"  # the span of a client
SECONDS = 40  # spans leave every two seconds


class Collected:
    """Traces by their id, and numbers by their name."""

    def __init__(self, api: Api, url: str) -> None:
        self.api, self.url = api, url

    @staticmethod
    def headers() -> tuple[str, dict[str, str]]:
        """A new trace's id, and the header by which a client begins it."""
        trace_id = secrets.token_hex(16)
        return trace_id, {"traceparent": f"00-{trace_id}-{CLIENT}-00"}

    def spans(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace so far, by their beginning."""
        answer = self.api.get(f"{self.url}/traces/{trace_id}")
        return list(answer.json["spans"]) if answer.status_code == 200 else []

    def wait_for(self, trace_id: str, *names: str, whole: bool = True) -> list[dict[str, Any]]:
        """The spans of a trace once there are ones of all these names, each told with its service.

        `whole`: and of all their parents, the client's but for.
        """

        def complete() -> Any:
            found = self.spans(trace_id)
            known = {span["span_id"] for span in found} | {CLIENT}
            if whole and not {span["parent_id"] for span in found} <= known:
                return None
            return found if {*names} <= {f"{span['service']}: {span['name']}" for span in found} else None

        spans: list[dict[str, Any]] = wait_until(complete, SECONDS, f"{names} in {trace_id}")
        return spans

    def numbers(self, name: str, service: str, **labels: str) -> list[dict[str, Any]]:
        """The series of a metric that a service has sent, with these labels among theirs."""
        return [
            each
            for each in self.api.get(f"{self.url}/metrics").json["metrics"]
            if (each["name"], each["service"]) == (name, service) and labels.items() <= each["labels"].items()
        ]

    def told(self, trace_id: str, service: str) -> dict[str, Any]:
        """The transaction that Sentry has heard of, once it has."""

        def heard() -> Any:
            events = self.api.get(f"{self.url}/events?limit=500").json["events"]
            return [each for each in events if (each["trace_id"], each["service"]) == (trace_id, service)]

        (found, *_) = wait_until(heard, SECONDS, f"{service} in {trace_id} at Sentry")
        return dict(self.api.get(f"{self.url}/events/{found['id']}").json)

    def everything(self) -> str:
        """All that was ever sent, as text."""
        events = [each["id"] for each in self.api.get(f"{self.url}/events?limit=500").json["events"]]
        sentry = [self.api.get(f"{self.url}/events/{id}").json for id in events]
        traces = [each["trace_id"] for each in self.api.get(f"{self.url}/traces?limit=500").json["traces"]]
        known = [*map(self.spans, traces), *sentry, self.api.get(f"{self.url}/metrics").json]
        return json.dumps(known).replace('"release": "dev-context@', '"release": "')


def named(spans: list[dict[str, Any]], service: str, name: str) -> dict[str, Any]:
    """The first span of a name."""
    return next(span for span in spans if (span["service"], span["name"]) == (service, name))

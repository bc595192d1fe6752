"""Log entries as Cloud Logging keeps them, and whether a filter of terraform/*.tf finds them."""

import json
from urllib.parse import quote

from local.logging_query import Entry, compiled

LABELS = "logging.googleapis.com/labels"
SPECIAL = ("severity", "time", LABELS, "logging.googleapis.com/trace", "logging.googleapis.com/spanId")


def entry(line: str, resource: str = "cloud_run_revision") -> Entry:
    """A line on standard output, as the agent of Cloud Run or GKE makes an entry of it."""
    payload = json.loads(line)
    return {
        "logName": f"projects/p/logs/{quote('run.googleapis.com/stdout', safe='')}",
        "resource": {"type": resource},
        "severity": payload.get("severity", "DEFAULT"),
        "labels": payload.get(LABELS, {}),
        "jsonPayload": {name: value for name, value in payload.items() if name not in SPECIAL},
    }


def matches(text: str, found: Entry) -> bool:
    """Whether an entry passes a filter. Raises ValueError for what is not understood."""
    return compiled(text)(found)

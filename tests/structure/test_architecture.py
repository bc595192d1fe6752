"""docs/architecture.md: the table of what runs is the catalog, and the picture has what the code has."""

import re

import yaml

from local.layout import CATALOG
from tests.structure.sources import read

PAGE = read("docs/architecture.md")
CALLERS = {"sessions": ["load balancer"]}  # what is called by no account of ours


def test_what_runs_is_the_catalog() -> None:
    """Each service once, with the accounts that may call it."""
    catalog = yaml.safe_load(CATALOG.read_text())
    section = PAGE.split("## What runs")[1].split("\n## ")[0]
    told = {
        name: callers.split(", ")
        for names, callers in re.findall(r"^\| (`.+?`) \| .+ \| (.+) \|$", section, re.MULTILINE)
        for name in re.findall(r"`([a-z-]+)`", names)
    }
    wanted = {name: entry.get("invokers") for name, entry in catalog["services"].items()}
    assert told == {**wanted, **CALLERS}
    assert catalog["workloads"].keys() == CALLERS.keys()
    beside = section.split("\n\nBeside them")[1]
    assert set(re.findall(r"`([a-z-]+)`", beside)) == set(catalog["jobs"])


def test_the_picture_shows_every_part() -> None:
    """What a request, a job, a stream and an alert pass on their way."""
    picture = read("docs/pictures/architecture.svg")
    shown = " ".join(re.findall(r">([^<]+)</text>", picture))
    parts = ("Load balancer", "Cloud Armor", "API Gateway", "Functions", "Session API", "PostgreSQL", "Valkey")
    behind = ("Cloud Tasks", "Workflows", "Job services", "Cloud Storage", "Scheduler", "Secret Manager", "KMS")
    watching = ("Cloud Logging", "Traces", "Cloud Monitoring", "Sentry", "Alerts", "Pub/Sub", "incidents")
    assert [part for part in (*parts, *behind, *watching) if part not in shown] == []
    for page in ("README.md", "docs/architecture.md"):
        (told,) = re.findall(r"!\[([^\]]+)\]\([^)]*architecture\.svg\)", read(page))
        assert all(word in told for word in ("PostgreSQL", "session API", "incidents", "Sentry"))

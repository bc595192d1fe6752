"""All instances and replicas at once fit into the database, and what a roll-out adds to them."""

import yaml

from local.layout import CATALOG

REVISIONS = 1.5  # Cloud Run: half as many again
PODS = 2  # half as many again by maxSurge, and as many that still drain: each keeps its connections for a minute


def test_the_budget_holds():
    catalog = yaml.safe_load(CATALOG.read_text())
    database, services, workloads = (catalog[part] for part in ("database", "services", "workloads"))
    most = REVISIONS * sum(service["max_instances"] * service["concurrency"] for service in services.values())
    most += PODS * sum(workload["max_replicas"] * workload["pool"] for workload in workloads.values())

    assert most + database["reserve"] <= database["max_connections"]

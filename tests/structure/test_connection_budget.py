"""All instances and replicas at once, and half as many again during a roll-out, fit into the database."""

import yaml

from local.layout import CATALOG


def test_the_budget_holds():
    catalog = yaml.safe_load(CATALOG.read_text())
    database, services, workloads = (catalog[part] for part in ("database", "services", "workloads"))
    most = sum(service["max_instances"] * service["concurrency"] for service in services.values())
    most += sum(workload["max_replicas"] * workload["pool"] for workload in workloads.values())

    assert most * 1.5 + database["reserve"] <= database["max_connections"]

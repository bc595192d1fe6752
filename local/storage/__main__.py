"""`python -m local.storage --layout layout.json`: serve the storage stand-in."""

import argparse

from aiohttp import web

from local.layout import HOST, Layout
from local.storage.app import application


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", required=True, help="path of layout.json")
    layout = Layout.load(parser.parse_args().layout)
    app = application(layout.root)
    web.run_app(app, host=HOST, port=layout.ports["storage"], shutdown_timeout=0.5, print=None, access_log=None)


main()

"""`make restore-drill`: lose a database, bring it back to a moment, forget again; measured against the objectives.

A stack of its own under a temporary folder, deleted at the end. The exit code is 0 when every check held and both
objectives were met.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from subprocess import CalledProcessError, SubprocessError

from requests import RequestException

from local.demo.client import TooLate
from local.demo.console import Broken, Console
from local.drill import report
from local.drill.filling import Amount
from local.drill.people import Refused
from local.drill.site import Site
from local.drill.story import Drill
from local.postgres_home import NotStarted

PROBLEMS = (Broken, TooLate, Refused, NotStarted, RequestException, SubprocessError, OSError)


def main() -> int:
    """Drill, and say whether everything held."""
    parser = argparse.ArgumentParser(prog="python -m local.drill", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="rows to write (default: a million)")
    parser.add_argument("--archive-seconds", type=int, default=60, help="archive_timeout: the bound of the RPO")
    parser.add_argument("--report", type=Path, help="write the figures into this page")
    chosen = parser.parse_args()
    console = Console()
    console.title("The restore drill")
    with tempfile.TemporaryDirectory(prefix="dev-context-drill-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's user walks through
        site = Site(Path(folder, "site"))
        drill = Drill(site, console, Amount(chosen.tasks), chosen.archive_seconds)
        try:
            drill.run()
        except PROBLEMS as error:
            detail = f"{error} {error.stderr or ''}" if isinstance(error, CalledProcessError) else error
            console.check(False, "drill", "goes on to its end", detail)
        finally:
            site.stop()
            site.forget()
    code = console.verdict()
    if chosen.report and {"rto", "rpo"} <= drill.facts.figures.keys():
        report.write(chosen.report, drill.facts, held=code == 0)
    return code


if __name__ == "__main__":
    sys.exit(main())

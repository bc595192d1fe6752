"""`python -m tools.readme`: write the tables of terraform/README.md; `--check` only compares."""

import argparse
import sys

from tools.readme import tables

README = tables.TERRAFORM / "README.md"
TABLES = {"variables": tables.variables, "outputs": tables.outputs, "costs": tables.costs}


def current(text: str) -> str:
    """The page with every table made anew. Raises ValueError where a mark is missing."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: python -m tools.readme -->\n", f"<!-- end of {name} -->"
        start, stop = text.index(begin) + len(begin), text.index(end)
        text = f"{text[:start]}{table()}\n{text[stop:]}"
    return text


def main() -> int:
    """Write the page, or say that it is not current."""
    parser = argparse.ArgumentParser(prog="python -m tools.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when it is not current")
    text = README.read_text()
    made = current(text)
    if parser.parse_args().check:
        return int(made != text)
    README.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The present pid of a service of a stack: `python -m bench.pid --stack FILE SERVICE`."""

import argparse
import json
from pathlib import Path


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", type=Path, required=True)
    parser.add_argument("service")
    arguments = parser.parse_args()
    print(json.loads(arguments.stack.read_text())["pids"][arguments.service])


if __name__ == "__main__":
    main()

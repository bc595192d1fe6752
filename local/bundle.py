"""`python -m local.bundle NAME`: the ZIP of one service for a deployment from source, the same bytes each time."""

import argparse
import re
import sys
import zipfile
from pathlib import Path

from local.layout import catalog

CHECKOUT = Path(__file__).parent.parent
LEFT_OUT = re.compile(r"(^|/)(\.|__pycache__/)")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP entry can carry


def bundle(service: str, target: Path) -> Path:
    """Write `<target>/<service>.zip`: main.py, requirements.txt, common/ and the function's folder. Raises KeyError."""
    entry = catalog()[service]
    folder, function = entry["folder"], entry["entry"]
    shim = f'"""The entry function of {service}."""\n\nfrom functions.{folder}.main import {function}\n'
    shim += f'\n__all__ = ["{function}"]\n'
    files = {"main.py": shim.encode(), "requirements.txt": (CHECKOUT / "requirements.txt").read_bytes()}
    sources = [CHECKOUT / "functions" / "__init__.py", *_below("common"), *_below(f"functions/{folder}")]
    files |= {str(path.relative_to(CHECKOUT)): path.read_bytes() for path in sources}
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"{service}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), files[name], zipfile.ZIP_DEFLATED)
    return path


def _below(folder: str) -> list[Path]:
    found = (CHECKOUT / folder).rglob("*")
    return [path for path in found if path.is_file() and not LEFT_OUT.search(path.relative_to(CHECKOUT).as_posix())]


def main() -> int:
    """Print the path of the ZIP."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("service", choices=list(catalog()))
    path = bundle(parser.parse_args().service, CHECKOUT / "build")
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The lines that are new in the log files of a stack; at first the last ones of each."""

from collections.abc import Iterator
from pathlib import Path

FIRST_BYTES = 4 << 20  # of a file that is read for the first time
MOST_BYTES = 8 << 20  # at once: whoever writes faster than that is not read whole


class Tail:
    """Remembers how far each `<folder>/*.log` was read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: dict[Path, int] = {}

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """Name of the log and line, for every whole line that came since the last call."""
        for path in sorted(self.folder.glob("*.log")):
            for line in self._fresh(path):
                yield path.stem, line

    def _fresh(self, path: Path) -> list[bytes]:
        size = path.stat().st_size
        known = path in self.places
        start = self.places.get(path, max(0, size - FIRST_BYTES))
        if size < start:  # it began anew
            start = 0
        start = max(start, size - MOST_BYTES)
        cut = start > 0 and start != self.places.get(path)
        if size == start:
            self.places[path] = size
            return []
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(size - start)
        whole = data.rfind(b"\n") + 1
        self.places[path] = start + whole
        found = data[:whole].split(b"\n")[:-1]
        return found[1:] if cut or (not known and start) else found  # the first line may be a half


def last_lines(path: Path, count: int, most: int = 64 << 10) -> list[str]:
    """The last lines of a log, as text; none of one that is not there."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - most))
        data = file.read()
    lines = data.decode(errors="replace").splitlines()
    return (lines[1:] if size > most else lines)[-count:]

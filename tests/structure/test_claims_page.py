"""docs/compliance/claims.md: each line of the two security guides has its row, and each row a proof that exists."""

import re

import pytest

from tests.structure.proofs import faults
from tests.structure.sources import read

PAGE = read("docs/compliance/claims.md")
LINES = {"A": 534, "B": 306}  # of each guide
ROW = re.compile(r"^\| ([AB])(\d+)(?:-(\d+))? \| ([^|]+) \| ([^|]+) \| ([^|]*) \|$", re.MULTILINE)
NOTHING = re.compile(r"^Lines that claim nothing [^:]*: ([\d, -]+)$", re.MULTILINE)
ROWS = ROW.findall(PAGE)
NAMES = [f"{guide}{first}" for guide, first, *_ in ROWS]
SAID = {  # what stands in some lines of the guides: the rows around them have not moved
    **{
        "A59": "an hour",
        "A104": "Keys rotate",
        "A141": "environment variables",
        "A242": "Countries",
        "A263": "30 days",
    },
    **{"A270": "at once", "A271": "Stack traces", "A272": "Performance", "A273": "people", "A279": "10 %"},
    **{"A287": "5 failed", "A322": "7 days", "A330": "15 minutes", "A409": "host", "A424": "scan", "A457": "way back"},
    **{"A472": "Scans", "A485": "without tests", "A499": "24 hours", "A516": "erasure", "A527": "vendors"},
    **{"B18": "duties", "B35": "Twilio", "B64": "mTLS", "B84": "phone", "B138": "10,000", "B157": "90 days"},
    **{"B195": "30 days", "B221": "HIGH", "B228": "P3", "B261": "72 hours", "B278": "log-off", "B304": "bounty"},
}


def spans(text: str) -> list[int]:
    """The numbers of `1-3, 7`."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


@pytest.mark.parametrize("guide", LINES)
def test_every_line_has_its_row_or_claims_nothing(guide: str) -> None:
    claimed = [
        line for of, first, last, *_ in ROWS if of == guide for line in range(int(first), int(last or first) + 1)
    ]
    nothing = spans(NOTHING.findall(PAGE)[list(LINES).index(guide)])
    assert claimed == sorted(set(claimed))
    assert sorted(claimed + nothing) == list(range(1, LINES[guide] + 1))


@pytest.mark.parametrize("line", SAID)
def test_a_row_stands_at_the_line_that_it_names(line: str) -> None:
    of, number = line[0], int(line[1:])
    (told,) = [row[3] for row in ROWS if row[0] == of and int(row[1]) <= number <= int(row[2] or row[1])]
    assert SAID[line] in told


def test_every_row_is_read() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| [AB]\d", line)]
    assert len(rows) == len(ROWS) > 250


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_row_proves_what_it_says(row: tuple[str, ...]) -> None:
    assert faults(row[4], row[5]) == []


def test_what_is_open_is_what_people_do() -> None:
    """No claim about code may be open."""
    assert [name for name, row in zip(NAMES, ROWS, strict=True) if row[5].startswith("Open")] == [
        *("A534", "B23", "B273", "B298", "B300", "B301", "B302", "B304", "B305"),
    ]

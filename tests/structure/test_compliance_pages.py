"""docs/compliance: the maps have every row that their standards have, and each row a proof that exists."""

import base64
import hashlib
import re

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from tests.structure.proofs import faults
from tests.structure.sources import read

FOLDER = "docs/compliance"
CELL = r"([^|]+)"
CRITERIA = [  # of the Trust Services Criteria: how many each series has
    *(f"CC{n}.{m}" for n, count in enumerate((5, 3, 4, 2, 3, 8, 5, 1, 2), 1) for m in range(1, count + 1)),
    *(f"A1.{n}" for n in range(1, 4)),
    *(f"C1.{n}" for n in range(1, 3)),
    *(f"PI1.{n}" for n in range(1, 6)),
    *(f"P{n}.{m}" for n, count in enumerate((1, 1, 2, 3, 2, 7, 1, 1), 1) for m in range(1, count + 1)),
]
SAFEGUARDS = {  # 45 CFR 164.312, complete, and its neighbours as 164.308 has them: required or addressable
    **{"312(a)(1)": "R", "312(a)(2)(i)": "R", "312(a)(2)(ii)": "R", "312(a)(2)(iii)": "A", "312(a)(2)(iv)": "A"},
    **{"312(b)": "R", "312(c)(1)": "R", "312(c)(2)": "A", "312(d)": "R"},
    **{"312(e)(1)": "R", "312(e)(2)(i)": "A", "312(e)(2)(ii)": "A"},
    **{"308(a)(1)(ii)(D)": "R", "308(a)(3)(ii)(C)": "A", "308(a)(5)(ii)(C)": "A", "308(a)(5)(ii)(D)": "A"},
    **{"308(a)(6)(ii)": "R", "308(a)(7)(ii)(A)": "R", "308(a)(7)(ii)(B)": "R", "308(a)(7)(ii)(C)": "R"},
    **{"308(a)(7)(ii)(D)": "A", "308(b)(1)": "R", "310": "R"},
}
ARTICLES = [  # of the GDPR, those with duties of a controller or processor
    *(5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 24, 25, 26, 27, 28, 29, 30),
    *(31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 77),
]
TIMES = {  # severity: the shorter time of both guides to answer, and to mend
    "critical": ("4 hours", "24 hours"),
    "high": ("24 hours", "7 days"),
    "moderate": ("7 days", "30 days"),
    "low": ("30 days", "next release"),
}


def rows(page: str, columns: int) -> list[tuple[str, ...]]:
    """The rows of a page's tables that have so many columns, without heads."""
    pattern = re.compile("^" + r" *".join([r"\|" + CELL] * columns) + r"\|$", re.MULTILINE)
    found = [tuple(cell.strip() for cell in row) for row in pattern.findall(read(f"{FOLDER}/{page}.md"))]
    return [row for row in found if not set(row[0]) <= {"-"} and row[-1] != "proof"]


SOC2, GDPR, HIPAA, THREATS = (
    rows(page, columns) for page, columns in (("soc2", 4), ("gdpr", 4), ("hipaa", 5), ("threat-model", 4))
)
PAGES = {"soc2": SOC2, "gdpr": GDPR, "hipaa": HIPAA, "threat-model": THREATS}
ALL = [(page, row) for page, found in PAGES.items() for row in found]


def test_every_criterion_has_its_row() -> None:
    assert len(CRITERIA) == 61
    assert [row[0] for row in SOC2] == CRITERIA


def test_every_safeguard_has_its_row() -> None:
    assert [(row[0], row[1]) for row in HIPAA] == [(f"164.{each}", kind) for each, kind in SAFEGUARDS.items()]


def test_every_article_has_its_row() -> None:
    told: list[int] = []
    for row in GDPR:
        first, _, last = row[0].split("(")[0].partition("-")
        told += range(int(first), int(last or first) + 1)
    assert list(dict.fromkeys(told)) == ARTICLES


def test_every_boundary_has_each_kind_of_threat() -> None:
    """Spoofing, tampering, repudiation, disclosure, denial, elevation: none is passed over."""
    boundaries = re.findall(r"^## \d+\. .+$", read(f"{FOLDER}/threat-model.md"), re.MULTILINE)
    assert len(boundaries) >= 8
    assert "".join(row[0] for row in THREATS) == "STRIDE" * len(boundaries)


@pytest.mark.parametrize(("page", "row"), ALL, ids=[f"{page} {row[0]} {n}" for n, (page, row) in enumerate(ALL)])
def test_a_row_proves_what_it_says(page: str, row: tuple[str, ...]) -> None:
    found = faults(row[-2], row[-1])
    if row[-1].startswith(("Open", "Does not apply")):
        found = [fault for fault in found if fault != "no code is named"]
    assert found == []


def test_no_threat_is_open() -> None:
    assert [row[1] for row in THREATS if row[-1].startswith("Open")] == []


def test_the_shorter_time_of_both_guides_counts() -> None:
    said = re.findall(r"^\| (\w+) \| (\d+ \w+) \| ([^|]+) \|$", read("SECURITY.md"), re.MULTILINE)
    assert {level: (answer, mended.strip()) for level, answer, mended in said} == TIMES


def test_the_policy_says_what_a_reporter_asks() -> None:
    """Where to, what is in scope, whether one is safe, when it is told, whether there is money."""
    text = read("SECURITY.md").lower()
    wanted = ("security_contact", "security.txt", "in scope", "out of scope", "safe harbour", "disclosure", "bounty")
    assert [word for word in wanted if word not in text] == []


def test_a_pull_request_asks_about_security() -> None:
    text = read(".github/pull_request_template.md").lower()
    wanted = ("route", "personal data", "grant", "secret", "dependency", "attacker", "who did not write it")
    assert [word for word in wanted if word not in text] == []


def test_the_review_asks_for_what_the_guide_wants() -> None:
    """Guide B: the timeline, what was learned, run books and procedures; guide A: an incident report."""
    text = read(f"{FOLDER}/post-incident-review.md")
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert {"Timeline", "Impact", "Root cause", "Lessons learned", "Actions"} <= set(heads)
    assert "run books and procedures updated" in text
    assert all(level in text for level in ("P0", "P1", "P2", "P3"))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # of an authority that is not ours
def test_pins_are_what_the_page_says() -> None:
    """Computed from the authorities that our own clients trust; every example has all of them."""
    page = read("docs/how-to/pin-certificates.md")
    with open(certifi.where(), "rb") as bundle:
        trusted = x509.load_pem_x509_certificates(bundle.read())
    pins = {
        str(names[0].value): base64.b64encode(
            hashlib.sha256(each.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
        ).decode()
        for each in trusted
        if (names := each.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    }
    told = dict(re.findall(r"^\| ([\w ]+) \| [^|]+ \| `([^`]+)` \|$", page, re.MULTILINE))
    assert told == {name: pin for name, pin in pins.items() if name.startswith(("GTS Root", "ISRG Root X"))}
    assert re.findall(r'<pin digest="SHA-256">([^<]+)</pin>', page) == list(told.values())
    assert re.findall(r"<string>([^<]+)</string>", page) == list(told.values())
    assert '"0 issue \\"pki.goog\\""' in read("terraform/dns.tf"), "the page rests on it"

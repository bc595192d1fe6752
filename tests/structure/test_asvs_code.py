"""What OWASP ASVS 5.0 asks of code itself: which cryptography, no commands or dynamic code, pages that keep nothing."""

import ast
import json
import re

from common import log
from common.answers import HEADERS
from tests.structure.sources import in_git, python_of, read, tree_of

PRODUCT = ("common", "functions", "sessions")
PRIMITIVES = {  # AES-GCM, RSA and Ed25519 signatures; PKCS #1 v1.5 signs (RFC 7518's RS256) and encrypts nothing
    *("AESGCM", "SHA256", "PKCS1v15", "rsa", "RSAPublicKey", "Ed25519PrivateKey", "Ed25519PublicKey"),
    *("serialization", "Encoding", "PublicFormat", "load_pem_public_key", "InvalidSignature", "InvalidTag"),
}
HASHES = {"sha256": PRODUCT, "sha1": ("functions/auth/totp.py",)}  # RFC 6238: what apps of phones understand
RUNS = {"subprocess", "pickle", "marshal", "shelve", "ctypes", "multiprocessing"}
CALLS = re.compile(r"\b(?:eval|exec|os\.system|os\.popen|os\.exec\w+|os\.spawn\w+|yaml\.(?:load|unsafe_load))\(")


def imported(*folders: str) -> dict[str, set[str]]:
    """Module → the files that import it, or a name from it."""
    found: dict[str, set[str]] = {}
    for path in python_of(*folders):
        for node in ast.walk(tree_of(path)):
            names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            for name in [node.module, *names] if isinstance(node, ast.ImportFrom) and node.module else names:
                found.setdefault(str(name), set()).add(str(path))
    return found


def test_only_sound_cryptography() -> None:
    """Authenticated encryption, SHA-256, signatures of 128 bits of strength or RSA's 112; no block modes by hand."""
    used = set()
    for path in python_of(*PRODUCT):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("cryptography"):
                used |= {each.name for each in node.names}
    assert used <= PRIMITIVES
    for path in python_of(*PRODUCT):
        text = read(path)
        named = set(re.findall(r"hashlib\.(\w+)\(|\"(sha\d+|md5)\"", text))
        for name in {each for pair in named for each in pair if each}:
            assert str(path).startswith(HASHES.get(name, ("nowhere",))), f"{path}: {name}"


def test_nothing_runs_a_command_or_a_text() -> None:
    found = imported(*PRODUCT)
    assert {name: found[name] for name in RUNS & set(found)} == {}
    assert [str(path) for path in python_of(*PRODUCT) if CALLS.search(read(path))] == []


def test_pages_write_text_and_keep_nothing() -> None:
    """Of our own pages; what Swagger UI does is its own."""
    pages = [path for path in in_git() if path.parts[0] in PRODUCT and path.suffix in {".html", ".js"}]
    assert len(pages) > 3
    wrong = re.compile(
        r"innerHTML|outerHTML|document\.write|insertAdjacentHTML|(?:local|session)Storage|indexedDB|postMessage"
    )
    assert [str(path) for path in pages if wrong.search(read(path))] == []


def test_headers_of_every_answer() -> None:
    """No framing, no sniffing, no cache, TLS for two years with the subdomains."""
    assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(HEADERS["Content-Security-Policy"].split("; "))
    age, *more = HEADERS["Strict-Transport-Security"].split("; ")
    assert int(age.removeprefix("max-age=")) >= 2 * 365 * 86_400
    assert "includeSubDomains" in more
    assert (HEADERS["X-Content-Type-Options"], HEADERS["Cache-Control"]) == ("nosniff", "no-store")


def test_times_of_the_log_are_utc(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(log, "settings", lambda: type("Settings", (), {"service": "auth"}))
    log.entry("INFO", "a line\nthat would be two")
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", json.loads(line)["time"])

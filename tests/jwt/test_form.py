"""The form of a token: one spelling, bounded before it is parsed, and never an answer other than 401.

RFC 8725: JWT best practices. RFC 9068: access tokens. The section that a test is about stands in its first line.
"""

import json
import time
import uuid

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jwt.tools import LETTERS, RINGS, accepted, encoded, headed, refused, said, signed

BY_RSA = jwt.encode(said(), RINGS["r"]["private_pem"], "RS256", headers={"kid": "r", "typ": "at+jwt"})
ADDED = ["=", "==", "%3D", "\n", " ", ".", "é", "\x00", "+", "/", "~", "\N{FULLWIDTH FULL STOP}"]


def test_no_other_text_than_utf_8():
    """RFC 8725, section 3.7: without a mark of byte order, too."""
    good = json.dumps(said())
    for payload in (good.encode("utf-16"), good.encode("utf-32"), good.encode("utf-8-sig"), good.encode() + b"\xff"):
        assert refused(signed(headed(), payload))
    for coding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        assert refused(signed(json.dumps(headed()).encode(coding), said()))


def test_a_member_that_stands_twice():
    """RFC 7515, section 4, and RFC 7519, section 4: names are unique; two readers would choose differently."""
    header, payload = json.dumps(headed()), json.dumps(said())
    assert refused(signed((header[:-1] + ',"alg":"HS256"}').encode(), payload.encode()))
    assert refused(signed(header.encode(), (payload[:-1] + f',"sub":"{uuid.uuid4()}"}}').encode()))


@pytest.mark.parametrize("deep", [b"[" * 500, b'{"a":' * 150, b"[" * 6000], ids=["brackets", "braces", "many"])
def test_deep_nesting_costs_nothing(deep):
    """CWE-674: brackets without end are refused, at whatever depth of calls the reader stands."""

    def down(levels):
        return down(levels - 1) if levels else refused(signed(deep, said())) and refused(signed(headed(), deep))

    assert down(0)
    assert down(300)


def test_a_huge_token_is_not_even_parsed():
    """CWE-400: bounded before anything is decoded or computed."""
    for token in ("A" * 10_000_000, "A.B." * 2_000_000, "." * 5_000_000, signed(headed(), said(x="y" * 9000))):
        started = time.perf_counter()
        assert refused(token)
        assert time.perf_counter() - started < 0.2
    assert accepted(signed(headed(), said(x="y" * 4000)))


@pytest.mark.parametrize("added", ADDED, ids=repr)
def test_other_spellings_of_a_token(added):
    """RFC 7515, sections 2 and 3.1: base64url without padding, three parts, ASCII."""
    token = signed(headed(), said())
    head, payload, mac = token.split(".")
    for spelled in (token + added, added + token, f"{head}{added}.{payload}.{mac}", f"{head}.{payload}{added}.{mac}"):
        assert refused(spelled)


def test_what_is_no_compact_token():
    """RFC 7515, section 7.2 (JSON), RFC 7516 (encrypted), RFC 7519, section 5.2 (nested), and no token at all."""
    token = signed(headed(), said())
    head, payload, mac = token.split(".")
    whole = {"protected": head, "payload": payload, "signature": mac}
    others = [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "null",
        "eyJ9.e30.",
        f"{head}..{mac}",
        f"{head}.{payload}.",
        encoded(token),
    ]
    others += [json.dumps(whole), json.dumps({"payload": payload, "signatures": [whole]})]
    others += [f"{head}.AAAA.AAAA.AAAA.AAAA", f"{encoded({'alg': 'dir', 'enc': 'A256GCM'})}..AAAA.AAAA.AAAA"]
    others += [signed(headed(cty="JWT"), token.encode()), signed(headed(), json.dumps(token).encode())]
    assert all(refused(other) for other in others)


def test_what_is_no_object():
    """RFC 7519, section 7.2: header and claims are JSON objects."""
    values = [[], [1], "x", 1, True, 1.5, b"null", b"", b"{", b"{}{}", b"{} ,", b"\x00{}"]
    assert all(refused(signed(headed(), value)) for value in values)
    assert all(refused(signed(value, said())) for value in [*values, [headed()], {}])


@given(st.data())
def test_one_letter_changed_anywhere(data):
    """RFC 7515, section 5.2: no part can be altered, not even spare bits (RFC 4648, section 3.5)."""
    for token in (signed(headed(), said()), BY_RSA):
        position = data.draw(st.integers(0, len(token) - 1))
        letter = data.draw(st.sampled_from(LETTERS))
        altered = token[:position] + letter + token[position + 1 :]
        assert altered == token or refused(altered)


@pytest.mark.parametrize("token", [lambda: signed(headed(), said()), lambda: BY_RSA], ids=["HS256", "RS256"])
def test_every_spelling_of_the_last_letter(token):
    """RFC 4648, section 3.5: 256 and 2048 bits leave bits to spare in the last letter."""
    good = token()
    assert accepted(good)
    assert all(refused(good[:-1] + letter) for letter in LETTERS if letter != good[-1])


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: raw.decode("latin-1")))
def test_no_text_does_anything_but_be_refused(text):
    assert refused(text)

"""Beside the library: what our own reader of tokens accepts, PyJWT accepts too, and reads the same in it."""

import base64
import string

import jwt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common import tokens
from common.errors import Problem
from tests.jwt.tools import API, RINGS, headed, said, signed

TEXT = string.ascii_letters + string.digits + "-_."
GOOD = signed(headed(), said())


def ours(token):
    """The claims, None for a token that is refused."""
    try:
        return tokens.read_access_token(token)
    except Problem:
        return None


def the_librarys(token):
    """The same by PyJWT, which is told the key's algorithm."""
    kid = jwt.get_unverified_header(token)["kid"]
    entry = RINGS[kid]
    key = entry.get("public_pem") or base64.urlsafe_b64decode(entry["key"] + "=" * (-len(entry["key"]) % 4))
    return jwt.decode(token, key, algorithms=[entry["algorithm"]], audience=API, issuer=API, leeway=5)


def test_both_read_a_good_one():
    for kid, entry in RINGS.items():
        key = entry.get("private_pem")
        token = jwt.encode(said(), key, "RS256", headers={"kid": kid, "typ": "at+jwt"}) if key else GOOD
        assert ours(token) is not None
        assert ours(token) == the_librarys(token)


@settings(max_examples=300)
@given(place=st.integers(0, len(GOOD) - 1), cut=st.integers(0, 3), text=st.text(TEXT, max_size=3))
@example(place=0, cut=0, text="")
def test_nothing_altered_passes_here_alone(place, cut, text):
    token = GOOD[:place] + text + GOOD[place + cut :]
    found = ours(token)
    assert (found is not None) == (token == GOOD)
    assert found is None or found == the_librarys(token)


CLAIMS = st.sampled_from(sorted(said()))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.lists(st.text(), max_size=2)
)


@settings(max_examples=300)
@given(name=CLAIMS, value=VALUES)
def test_no_claim_passes_here_alone(name, value):
    token = signed(headed(), said(**{name: value}))
    found = ours(token)
    assert found is None or found == the_librarys(token)

"""What the claims say: issued by us, for us, now, to somebody.

RFC 8725: JWT best practices. RFC 9068: access tokens. The section that a test is about stands in its first line.
"""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import errors, tokens
from tests.jwt.tools import API, accepted, headed, refused, said, signed

ISSUERS = ["", "https://evil.example", API + "/", API.upper(), API + "\x00", [API], {}, 1, None]
SUBJECTS = ["", "x", "{}", 1, None, [], {}, "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "0" * 32, "0" * 36]
AUDIENCES = ["", "https://other.example", API + "/", [], ["x"], [[API]], {API: 1}, 1, None]
MOMENTS = [-1, -(2**63), 2**53, 2**64, 10**400, 1.5, 1e300, True, False, "9999999999", [], {}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("issuer", ISSUERS, ids=repr)
def test_the_issuer_is_ours_exactly(issuer):
    """RFC 8725, section 3.8; RFC 9068, section 4: iss matches exactly, and the key is one of that issuer's."""
    assert refused(signed(headed(), said(iss=issuer)))


@pytest.mark.parametrize("subject", SUBJECTS, ids=repr)
@pytest.mark.parametrize("name", ["sub", "sid", "tenant_id"])
def test_a_subject_is_an_id_of_ours(name, subject):
    """RFC 8725, section 3.8: sub, and what else names somebody or something, is a UUID in canonical text."""
    assert refused(signed(headed(), said(**{name: subject})))


@pytest.mark.parametrize("audience", AUDIENCES, ids=repr)
def test_the_audience_is_us(audience):
    """RFC 8725, section 3.9; RFC 9068, section 4."""
    assert refused(signed(headed(), said(aud=audience)))


def test_one_of_several_audiences_may_be_us():
    """RFC 7519, section 4.1.3."""
    assert accepted(signed(headed(), said(aud=["https://other.example", API])))


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "sid", "tenant_id", *tokens.TIMES])
def test_what_has_to_be_there(name):
    """RFC 9068, section 4."""
    assert refused(signed(headed(), said(**{name: None})))


def test_expired_or_not_yet():
    """RFC 9068, section 4; RFC 7519, sections 4.1.4 and 4.1.5: with five seconds for clocks that differ."""
    now = int(time.time())
    for changes in ({"exp": now - 6}, {"exp": 0}, {"nbf": now + 60}, {"iat": now + 60}, {"auth_time": now + 60}):
        assert refused(signed(headed(), said(**changes)))
    for changes in ({"exp": now - 2}, {"nbf": now + 4}):
        assert accepted(signed(headed(), said(**changes)))


def test_it_ends_when_it_ends():
    """RFC 7519, section 4.1.4: a token that was good is refused when its time is over, however often it was read."""
    token = signed(headed(), said(exp=int(time.time()) - 3))
    assert accepted(token)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            accepted(token)
        except errors.Problem:
            return
        time.sleep(0.1)
    pytest.fail("it never expired")


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: repr(moment)[:20])
@pytest.mark.parametrize("name", tokens.TIMES)
def test_times_are_whole_seconds(name, moment):
    """RFC 7519, section 2 (NumericDate): what we issue is whole, and nothing else is read."""
    assert refused(signed(headed(), said(**{name: moment})))


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999999", "9" * 5000], ids=lambda n: n[:9]
)
def test_numbers_that_are_none(number):
    """RFC 8259, section 6: NaN and the infinities are no JSON; a number out of range is no time."""
    for name in ("exp", "nbf"):
        payload = json.dumps(said(**{name: "here"})).replace('"here"', number).encode()
        assert refused(signed(headed(), payload))


@pytest.mark.parametrize("amr", ["pwd", [1], [None], {"pwd": 1}, True, 0], ids=repr)
def test_methods_are_a_list_of_names(amr):
    """RFC 8176, section 1."""
    assert refused(signed(headed(), said(amr=amr)))


@given(JSON, st.sampled_from(["iss", "aud", "sub", "sid", "tenant_id", "iat", "nbf", "exp", "auth_time", "amr", "kid"]))
def test_no_value_of_a_claim_breaks_the_reader(value, name):
    """Whatever stands in a claim that has been signed: a caller, or 401."""
    try:
        accepted(signed(headed(), said(**{name: value})))
    except errors.Problem as problem:
        status = problem.status
    else:
        status = 401
    assert status == 401

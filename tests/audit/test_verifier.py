"""The verifier finds whatever was changed in a chain, and says where: proven over chains and changes made at random."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audit import GENESIS, Point, Verifier, base_holds, canonical, parsed
from tests.audit.chains import Chain, Event, event, nulled, sample, seal

KEYS = st.text("abcdefXYZ_09", max_size=6)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
PERSONAL = st.none() | st.fixed_dictionaries({"ip": st.none() | TEXT, "user_agent": st.none() | TEXT})
FIELDS = (
    *("seq", "at", "actor", "action", "resource", "outcome", "request_id", "data", "personal", "personal_salt"),
    *("personal_hash", "prev_hash", "hash"),
)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Any chain that services could have written: from any base, with erasures, in batches, of what stood before."""
    chain = Chain(draw(st.sampled_from([0, 1, 7, 2**40])))
    for _ in range(draw(st.integers(1, 12))):
        whole = [known["seq"] for known in chain.events if known["personal_salt"] is not None]
        if whole and draw(st.integers(0, 4)) == 0:
            chain.erase(draw(st.lists(st.sampled_from(whole), min_size=1, max_size=4, unique=True)))
        else:
            chain.add(personal=draw(PERSONAL), data=draw(st.dictionaries(KEYS, VALUES, max_size=3)))
    return chain


def check(chain: Chain, events: list[Any] | None = None, points: list[Point] | None = None) -> int | None:
    """The first seq that is broken, of these events in the chain's place."""
    verifier = Verifier(Point(*chain.base), points or [], Point(*chain.head))
    for each in chain.events if events is None else events:
        verifier.take(each)
    return verifier.broken


@settings(max_examples=40, deadline=None)
@given(chain=chains())
def test_what_services_write_holds(chain: Chain) -> None:
    assert check(chain) is None
    through_json = [parsed(json.dumps(each).encode()) for each in chain.events]
    assert check(chain, through_json) is None


@settings(max_examples=150, deadline=None)
@given(chain=chains(), data=st.data())
def test_any_altered_field_is_found(chain: Chain, data: st.DataObject) -> None:
    events = copy.deepcopy(chain.events)
    victim = data.draw(st.sampled_from(events))
    seq, name = victim["seq"], data.draw(st.sampled_from(FIELDS))
    value = data.draw(st.one_of(VALUES, st.just(True), st.just(float(seq))))
    if json.dumps(value) == json.dumps(victim[name]):
        return
    victim[name] = value
    found = check(chain, events)
    earlier_seq = name == "seq" and type(value) is int and chain.base[0] < value < seq
    assert found == (value if earlier_seq else seq)


@settings(max_examples=40, deadline=None)
@given(chain=chains(), data=st.data())
def test_members_more_or_less_are_found(chain: Chain, data: st.DataObject) -> None:
    events = copy.deepcopy(chain.events)
    victim = data.draw(st.sampled_from(events))
    seq = victim["seq"]
    if data.draw(st.booleans()):
        victim["more"] = data.draw(VALUES)
    else:
        del victim[data.draw(st.sampled_from(FIELDS))]
    assert check(chain, events) == seq


@settings(max_examples=40, deadline=None)
@given(chain=chains(), data=st.data())
def test_removed_swapped_doubled_and_put_in_are_found(chain: Chain, data: st.DataObject) -> None:
    events = list(chain.events)
    place = data.draw(st.integers(0, len(events) - 1))
    other = data.draw(st.integers(0, len(events) - 1))
    first, second = sorted((place, other))
    seqs = [known["seq"] for known in events]
    assert check(chain, [*events[:place], *events[place + 1 :]]) == seqs[place]
    if first != second:
        swapped = list(events)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        assert check(chain, swapped) == seqs[first]
    assert check(chain, [*events[: second + 1], events[first], *events[second + 1 :]]) == seqs[first]
    forged = event(seqs[place] + 1, events[place]["hash"])
    appended = check(chain, [*events[: place + 1], forged, *events[place + 1 :]])
    assert appended == seqs[place] + 1
    assert check(chain, events[:place]) == seqs[place]  # a cut tail


@settings(max_examples=40, deadline=None)
@given(chain=chains(), data=st.data())
def test_a_nulled_personal_part_needs_its_event(chain: Chain, data: st.DataObject) -> None:
    events = list(chain.events)
    whole = [place for place, known in enumerate(events) if known["personal_salt"] is not None]
    place = data.draw(st.sampled_from(whole))
    events[place] = nulled(events[place])
    said_later = any(
        known["action"] == "personal.erased" and events[place]["seq"] in known["data"]["events"]
        for known in events[place + 1 :]
    )
    assert check(chain, events) == (None if said_later else events[place]["seq"])


def test_an_erasure_that_was_said_before_explains_nothing() -> None:
    chain = Chain()
    chain.add(action="personal.erased", data={"events": [2]})
    chain.add(personal={"ip": "203.0.113.7", "user_agent": None})
    chain.events[1] = nulled(chain.events[1])
    assert check(chain) == 2


def test_an_erasure_does_not_explain_itself() -> None:
    chain = Chain()
    chain.add()
    chain.add(action="personal.erased", data={"events": [1, 2, 3]})
    chain.events[1] = nulled(chain.events[1])
    assert check(chain) == 2


@pytest.mark.parametrize("listed", [None, "2", [True, "2", None, 2.0, [2], 2**60, -1], {"2": 2}])
def test_an_erasure_lists_seqs(listed: Any) -> None:
    chain = Chain()
    chain.add()
    chain.add(personal={"ip": "203.0.113.7", "user_agent": None})
    chain.events[1] = nulled(chain.events[1])
    chain.add(action="personal.erased", data={"events": listed} if listed is not None else {})
    assert check(chain) == 2


@settings(max_examples=40, deadline=None)
@given(chain=chains(), data=st.data())
def test_a_chain_written_anew_does_not_contain_its_anchor(chain: Chain, data: st.DataObject) -> None:
    """An administrator changes an event and hashes everything behind it anew: all links hold, the anchor tells."""
    anchored = data.draw(st.sampled_from(chain.events))
    place = data.draw(st.integers(0, len(chain.events) - 1))
    again = Chain(chain.base[0])
    again.events = copy.deepcopy(chain.events)
    again.events[place]["action"] += "!"
    last = again.events[place]["prev_hash"]
    for known in again.events[place:]:
        known["prev_hash"] = last
        last = seal(known)["hash"]
    assert again.head != chain.head
    if chain.events[place]["action"] == "personal.erased":
        return  # then something is nulled without its event as well
    assert check(again) is None
    expected = anchored["seq"] if anchored["seq"] >= again.events[place]["seq"] else None
    assert check(again, points=[Point(anchored["seq"], anchored["hash"])]) == expected


@pytest.mark.parametrize("seq", [True, 1.0])
def test_a_seq_is_a_whole_number(seq: Any) -> None:
    """Python finds both equal to 1; that the hashes fit makes them no better."""
    verifier = Verifier()
    verifier.take(event(seq, GENESIS, at="2026-01-01T00:00:00.000001Z"))
    assert verifier.broken == 1


def test_an_empty_chain_has_one_origin() -> None:
    assert base_holds(Point(0, GENESIS), None, "o", {})
    assert not base_holds(Point(0, "a" * 64), None, "o", {})


def test_points_and_head() -> None:
    chain = sample()
    events, (seq, digest) = chain.events, chain.head
    verifier = Verifier(points=[Point(seq + 5, digest)])
    for known in events:
        verifier.take(known)
    assert verifier.verdict() == (seq + 1, "it is missing")
    assert check(chain, [*events, event(seq + 1, digest)]) == seq + 1  # behind the head that the row names
    assert Verifier(Point(7, "a" * 64), [Point(7, "b" * 64)]).broken == 7
    assert Verifier(points=[Point(0, "b" * 64)]).broken == 1
    assert Verifier(points=[Point(3, "a" * 64), Point(3, "b" * 64)]).broken == 1  # an empty chain reaches neither
    assert Verifier(points=[Point(0, GENESIS)]).broken is None
    assert Verifier(Point(7, "a" * 64), head=Point(7, "a" * 64)).broken is None
    assert Verifier(Point(7, "a" * 64), head=Point(3, "b" * 64)).broken == 4
    assert Verifier(Point(7, "a" * 64), head=Point(-3, "b" * 64)).broken == 1


@settings(max_examples=40, deadline=None)
@given(
    value=st.recursive(
        SCALARS | st.floats(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    )
)
def test_anything_may_come(value: Any) -> None:
    verifier = Verifier()
    verifier.take(value)
    assert verifier.broken == 1
    shaped: Event = {**event(1, GENESIS), "data": value}
    verifier = Verifier()
    verifier.take({**shaped, "seq": value})
    verifier.take({**shaped, "personal": value})
    assert verifier.broken == 1


def test_a_million_events_need_a_bit_each() -> None:
    verifier = Verifier()
    for _ in range(20_000):
        verifier.take(None)
    assert len(verifier._nulled) == 0
    chain = Chain()
    for _ in range(800):
        chain.add()
    verifier = Verifier()
    for known in chain.events:
        verifier.take(nulled(known))
    assert (len(verifier._nulled), verifier.broken) == (100, 1)


def test_canonical_json_is_rfc_8785() -> None:
    """The example of RFC 8785, section 3.2.4, as far as an event may hold it, and the escapes of section 3.2.2.2."""
    value = {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", "literals": [None, True, False], "1": -0, "B": 1}
    assert canonical(value) == ('{"1":0,"B":1,"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}')
    assert canonical("\b\t\n\f\r\x00\x1f\x7f\u2028") == '"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\u2028"'

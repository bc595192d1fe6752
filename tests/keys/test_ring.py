"""A ring under rotation, without a clock: what each run does, and that nobody ever signs what others cannot verify."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import certificate
from common.secrets import _key
from functions.keys import rings
from functions.keys.rings import Policy

DAY = 86_400
POLICY = Policy(period=90 * DAY, settle=3600, lifetime=7200)


def ring(**keys):
    """The first key is the active one."""
    return {"active": next(iter(keys)), "keys": {kid: {**rings.fresh("HS256"), **times} for kid, times in keys.items()}}


def run(before, now, policy=POLICY):
    after, done = rings.advance(before, now, policy)
    assert rings.advance(after, now, policy) == (after, []), "a second run at the same moment does nothing"
    return after, [step.split()[0] for step in done]


def other(before, after):
    (kid,) = after["keys"].keys() - before["keys"].keys()
    return kid


def test_a_key_is_added_waits_signs_and_is_retired():
    first, done = run(ring(old={}), 0)
    assert (first["keys"]["old"]["promoted_at"], done) == (0, [])
    assert run(first, 90 * DAY - 1) == (first, [])

    added, done = run(first, 90 * DAY)
    new = other(first, added)
    assert (added["active"], done) == ("old", ["added"])
    assert run(added, 90 * DAY + 3599) == (added, [])

    promoted, done = run(added, 90 * DAY + 3600)
    assert (promoted["active"], done) == (new, ["promoted"])
    assert promoted["keys"]["old"]["retired_at"] == promoted["keys"][new]["promoted_at"] == 90 * DAY + 3600
    assert run(promoted, 90 * DAY + 3600 + 3600 + 7199) == (promoted, [])

    retired, done = run(promoted, 90 * DAY + 3600 + 3600 + 7200)
    assert (list(retired["keys"]), done) == ([new], ["retired"])


def test_what_was_is_not_changed():
    before = ring(old={"created_at": 0, "promoted_at": 0})
    kept = str(before)
    rings.advance(before, 90 * DAY, POLICY)
    assert str(before) == kept


def test_a_ring_without_times_is_taken_over():
    """The active key begins today; of another one nobody knows how long ago it signed: it ended today."""
    after, done = run(ring(active={}, other={}), 1000)
    times = {name: after["keys"]["other"].get(name) for name in rings.TIMES}
    assert (times, done) == ({"created_at": 1000, "promoted_at": None, "retired_at": 1000}, [])
    assert "retired_at" not in after["keys"]["active"]


def test_another_algorithm_makes_a_key_at_once_and_the_old_one_verifies_on():
    before, _ = run(ring(old={}), 0)
    policy = Policy(90 * DAY, 3600, 7200, "RS256")
    added, done = run(before, 60, policy)
    new = other(before, added)
    assert done == ["added"]
    assert added["keys"][new]["algorithm"] == "RS256"
    promoted, _ = run(added, 60 + 3600, policy)
    assert (promoted["active"], set(promoted["keys"])) == (new, {"old", new})


def test_a_key_of_an_algorithm_that_is_not_wanted_any_more_never_signs():
    before, _ = run(ring(old={}), 0)
    added, _ = run(before, 60, Policy(90 * DAY, 3600, 7200, "RS256"))
    after, done = run(added, DAY)
    assert (after, done) == (before, ["dropped"])


def test_keys_that_are_needed_for_ever_stay():
    policy = Policy(90 * DAY, 3600, None)
    before = ring(new={"created_at": 0, "promoted_at": 0}, old={"created_at": 0, "promoted_at": 0, "retired_at": 0})
    after, done = run(before, 80 * DAY, policy)
    assert (after, done) == (before, [])


def test_of_a_certificate_key_the_public_half_stays():
    policy = Policy(90 * DAY, 3600, None, shrinks=True)
    before = ring(new={"created_at": 0, "promoted_at": 0}, old={"created_at": 0, "promoted_at": 0, "retired_at": DAY})
    assert run(before, DAY + 3599, policy) == (before, [])
    after, done = run(before, DAY + 3600, policy)
    assert done == ["shrunk"]
    assert not {"key", "private_pem"} & after["keys"]["old"].keys()
    keys = [_key("old", each["keys"]["old"]) for each in (before, after)]
    assert certificate._public(keys[0]) == certificate._public(keys[1])
    assert keys[1].secret is None


def test_who_verifies_gets_no_private_key_and_no_times():
    whole = {"active": "r", "keys": {"r": {**rings.fresh("RS256"), "created_at": 1}, "h": rings.fresh("HS256")}}
    shown = rings.verifying(whole)
    assert set(shown["keys"]["r"]) == {"algorithm", "public_pem"}
    assert shown["keys"]["h"] == whole["keys"]["h"]
    assert "PRIVATE" not in str(shown)


def test_a_key_that_not_everybody_could_read_waits_anew():
    before = ring(old={"created_at": 0, "promoted_at": 0}, new={"created_at": 100})
    assert rings.publish_again(before, {"old", "new"}, 5000) == before
    assert rings.publish_again(before, {"old"}, 5000)["keys"]["new"]["created_at"] == 5000


def test_keys_are_long_enough_and_different():
    made = {rings.fresh("HS256")["key"] for _ in range(50)}
    assert len(made) == len({rings.new_kid() for _ in range(50)}) == 50
    assert {len(base64.urlsafe_b64decode(key + "=")) for key in made} == {32}


def test_the_way_back():
    earlier = ring(old={"created_at": 0, "promoted_at": 0})
    now = {**earlier, "active": "new", "keys": {**earlier["keys"], "new": {**rings.fresh("HS256"), "promoted_at": 9}}}
    now["keys"]["old"]["retired_at"] = 9

    back = rings.rolled_back(now, earlier, 20)

    assert (back["active"], back["keys"]["new"]["retired_at"]) == ("old", 20)
    assert "retired_at" not in back["keys"]["old"]
    assert set(rings.rolled_back(now, earlier, 20, frozenset({"new"}))["keys"]) == {"old"}
    for gone in ({"active": "lost", "keys": {"lost": rings.fresh("HS256")}}, {**earlier, "keys": ring(old={})["keys"]}):
        with pytest.raises(ValueError, match="retired"):
            rings.rolled_back(now, gone, 20)
    with pytest.raises(ValueError, match="thrown away"):
        rings.rolled_back(now, earlier, 20, frozenset({"old"}))


CACHE = 30


@given(
    pauses=st.lists(st.integers(0, 400), min_size=1, max_size=40),
    lost=st.sets(st.integers(0, 39)),
    lifetime=st.integers(1, 300),
)
def test_nobody_signs_what_somebody_cannot_verify(pauses, lost, lifetime):
    """Runs come when they like and some die before they write. Whoever reads anything up to CACHE old signs with it;
    whatever was signed in the last `lifetime` is verified by whoever reads anything up to CACHE old.
    """
    policy = Policy(period=200, settle=2 * CACHE, lifetime=lifetime)
    now, history = 0, [(-CACHE - lifetime, rings.advance(ring(first={}), 0, policy)[0])]
    for number, pause in enumerate(pauses):
        now += pause
        after, _ = rings.advance(history[-1][1], now, policy)
        if number not in lost:
            history.append((now, after))
    until = [*(at for at, _ in history[1:]), now + 1000]

    for index, (at, signing) in enumerate(history):
        last_signature = until[index] + CACHE
        for other_index, (other_at, verifying) in enumerate(history):
            seen = (other_at, until[other_index] + CACHE)
            if seen[0] < last_signature + lifetime and at < seen[1]:
                assert signing["active"] in verifying["keys"]

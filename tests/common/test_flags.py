"""A flag is true or false: what a language counts as equal to one of them is neither."""

import pytest


@pytest.mark.parametrize("flag", [0, 1, 1.0, "true", "", None, [], {}], ids=repr)
def test_only_true_and_false(api, alice, flag):
    answer = api.post("/v1/deletions", json={"scope": "me", "dry_run": flag}, headers=alice)

    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert set(answer.json["errors"]) == {"dry_run"}


def test_true(api, alice):
    answer = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=alice)

    assert answer.status_code == 200
    assert answer.json["plan"]

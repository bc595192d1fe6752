"""try/retry: how often, after which waits, and for which errors."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.workflows.model import Const, Mark, Retry, Template
from local.workflows.retrying import delay

RETRY = """
    main:
      params: [url]
      steps:
        - t:
            try:
              call: http.get
              args: {url: "${url}"}
              result: a
            retry:
              predicate: %s
              max_retries: 3
              backoff: {initial_delay: 0.1, max_delay: 0.3, multiplier: 2}
            except:
              as: e
              steps: [{x: {return: "${\\"gave up: \\" + string(e.code)}"}}]
        - r: {return: "${a.code}"}
    only_409:
      params: [e]
      steps:
        - s: {switch: [{condition: "${\\"HttpError\\" in e.tags and e.code == 409}", return: true}]}
        - r: {return: false}
"""
IDEMPOTENT = RETRY % "${http.default_retry_predicate}"
NON_IDEMPOTENT = RETRY % "${http.default_retry_predicate_non_idempotent}"


@pytest.fixture(scope="module")
def deployed(new_cloud: Callable[[], Any]) -> Iterator[Any]:
    cloud = new_cloud()
    cloud.deploy("idempotent", IDEMPOTENT)
    cloud.deploy("non_idempotent", NON_IDEMPOTENT)
    cloud.deploy("own", RETRY % "${only_409}")
    cloud.up()
    yield cloud
    cloud.down()


def test_it_stops_at_the_first_success(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(503), answer(503), answer(200)]
    assert cloud.run(IDEMPOTENT, target.url + "/") == 200
    assert target.count("/") == 3


def test_waits_grow_to_the_longest_and_then_it_gives_up(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(503)]
    assert cloud.run(IDEMPOTENT, target.url + "/") == "gave up: 503"
    times = [each.at for each in target.seen]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(gaps) == 3
    for gap, wait in zip(gaps, [0.1, 0.2, 0.3], strict=True):
        assert wait <= gap < wait + 1


def constant(template: Template) -> Any:
    assert isinstance(template, Const)
    return template.value


def test_the_waits_are_the_documented_ones() -> None:
    retry = Retry("p", Const(8), Const(1), Const(60), Const(2), Mark(1, 1))
    waits = [delay(retry, attempt, constant) for attempt in range(1, 10)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, None]


@pytest.mark.parametrize(
    ("name", "status", "retried"),
    [
        ("idempotent", 429, True),
        ("idempotent", 502, True),
        ("idempotent", 504, True),
        ("idempotent", 500, False),
        ("idempotent", 404, False),
        ("non_idempotent", 429, True),
        ("non_idempotent", 503, True),
        ("non_idempotent", 502, False),
        ("own", 409, True),
        ("own", 503, False),
    ],
)
def test_which_errors(deployed: Any, target: Any, answer: Any, name: str, status: int, retried: bool) -> None:
    target.answers["/"] = [answer(status), answer(200)]
    shown = deployed.wait(deployed.create(name, target.url + "/"))
    assert json.loads(shown["result"]) == (200 if retried else f"gave up: {status}")


def test_a_broken_connection_is_retried_for_idempotent_targets(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(drop=True), answer(200)]
    assert cloud.run(IDEMPOTENT, target.url + "/") == 200


def test_the_default_policy(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(503), answer(200)]
    source = """
    main:
      params: [url]
      steps:
        - t:
            try:
              steps:
                - before: {call: http.get, args: {url: "${url + \\"before\\"}"}}
                - c: {call: http.get, args: {url: "${url}"}}
            retry: ${http.default_retry}
    """
    cloud.run(source, target.url + "/")
    times = [each.at for each in target.seen if each.path == "/"]
    assert 1 <= times[1] - times[0] < 3
    assert target.count("/before") == 2


def test_an_error_of_the_language_is_not_retried(cloud: Any) -> None:
    source = """
    main:
      steps:
        - a: {assign: [{n: 0}]}
        - t:
            try: {steps: [{b: {assign: [{n: "${n + 1}"}, {x: "${1 / 0}"}]}}]}
            retry: ${http.default_retry}
            except: {as: e, steps: [{r: {return: "${n}"}}]}
    """
    assert cloud.run(source) == 1

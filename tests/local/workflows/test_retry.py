"""try/retry: how often, after which waits, and for which errors."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.workflows.model import Mark, Retry
from local.workflows.retrying import delay

RETRY = """
    main:
      params: [url]
      steps:
        - t:
            try:
              call: http.get
              args: {url: "${url}", timeout: 2}
              result: a
            retry:
              predicate: ${is_passing}
              max_retries: 3
              backoff: {initial_delay: %d, max_delay: 2, multiplier: 2}
            except:
              as: e
              steps: [{x: {return: {gave_up: "${map.get(e, \\"code\\")}"}}}]
        - r: {return: "${a.code}"}
    is_passing:
      params: [error]
      steps:
        - by_status:
            switch:
              - condition: ${"code" in error and (error.code == 429 or error.code >= 500)}
                return: true
              - condition: ${"tags" in error and ("ConnectionError" in error.tags or "TimeoutError" in error.tags)}
                return: true
        - otherwise: {return: false}
"""
AT_ONCE = RETRY % 0
WITH_WAITS = RETRY % 1


@pytest.fixture(scope="module")
def deployed(new_cloud: Callable[[], Any]) -> Iterator[Any]:
    cloud = new_cloud()
    cloud.deploy("own", AT_ONCE)
    cloud.up()
    yield cloud
    cloud.down()


def test_it_stops_at_the_first_success(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(503), answer(503), answer(200)]
    assert cloud.run(AT_ONCE, target.url + "/") == 200
    assert target.count("/") == 3


def test_waits_grow_to_the_longest_and_then_it_gives_up(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(503)]
    assert cloud.run(WITH_WAITS, target.url + "/") == {"gave_up": 503}
    times = [each.at for each in target.seen]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(gaps) == 3
    for gap, wait in zip(gaps, [1, 2, 2], strict=True):
        assert wait <= gap < wait + 1


def test_the_waits_are_the_documented_ones() -> None:
    retry = Retry("p", max_retries=8, initial_delay=1, max_delay=60, multiplier=2, mark=Mark(1, 1))
    waits = [delay(retry, attempt) for attempt in range(1, 10)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, None]


@pytest.mark.parametrize(("status", "retried"), [(429, True), (500, True), (503, True), (409, False), (404, False)])
def test_which_errors(deployed: Any, target: Any, answer: Any, status: int, retried: bool) -> None:
    target.answers["/"] = [answer(status), answer(200)]
    shown = deployed.wait(deployed.create("own", target.url + "/"))
    assert json.loads(shown["result"]) == (200 if retried else {"gave_up": status})
    assert target.count("/") == 1 + retried


def test_a_broken_connection_is_what_the_predicate_says(deployed: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(drop=True), answer(200)]
    assert json.loads(deployed.wait(deployed.create("own", target.url + "/"))["result"]) == 200


def test_the_whole_try_is_repeated(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(503), answer(200)]
    source = """
    main:
      params: [url]
      steps:
        - a: {assign: [{n: 0}]}
        - t:
            try:
              steps:
                - before: {call: http.get, args: {url: "${url + \\"before\\"}"}}
                - b: {assign: [{n: "${n + 1}"}]}
                - c: {call: http.get, args: {url: "${url}"}}
            retry: {predicate: "${always}", max_retries: 1, backoff: {initial_delay: 0, max_delay: 0, multiplier: 1}}
        - r: {return: "${n}"}
    always: {params: [e], steps: [{r: {return: true}}]}
    """
    assert cloud.run(source, target.url + "/") == 2
    assert target.count("/before") == 2


def test_without_except_the_last_error_is_raised(cloud: Any) -> None:
    source = """
    main:
      steps:
        - t:
            try: {steps: [{b: {raise: oh}}]}
            retry: {predicate: "${always}", max_retries: 2, backoff: {initial_delay: 0, max_delay: 0, multiplier: 1}}
    always: {params: [e], steps: [{r: {return: true}}]}
    """
    cloud.deploy("it", source)
    cloud.up()
    shown = cloud.wait(cloud.create("it"))
    assert json.loads(shown["error"]["payload"]) == "oh"


def test_a_predicate_answers_a_boolean(cloud: Any) -> None:
    source = """
    main:
      steps:
        - t:
            try: {steps: [{b: {raise: oh}}]}
            retry: {predicate: "${perhaps}", max_retries: 2, backoff: {initial_delay: 0, max_delay: 0, multiplier: 1}}
    perhaps: {params: [e], steps: [{r: {return: 1}}]}
    """
    cloud.deploy("it", source)
    cloud.up()
    shown = cloud.wait(cloud.create("it"))
    assert json.loads(shown["error"]["payload"])["tags"] == ["TypeError"]

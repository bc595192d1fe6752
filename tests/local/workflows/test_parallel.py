"""parallel: really at once, never more than the limit, and shared variables that all iterations write."""

import json
import threading
from typing import Any

FAN = """
    main:
      params: [args]
      steps:
        - a: {assign: [{names: ""}]}
        - p:
            parallel:
              shared: [names]
              concurrency_limit: LIMIT
              for:
                value: n
                in: ${args.paths}
                steps:
                  - c: {call: http.get, args: {url: "${args.url + n}"}, result: answer}
                  - s: {assign: [{names: "${names + answer.body}"}]}
        - r: {return: "${names}"}
"""
PATHS = ["1", "2", "3", "4", "5", "6"]


def fan(cloud: Any, target: Any, answer: Any, eventually: Any, limit: int, expected: int) -> None:
    gate = threading.Event()
    for number in range(1, 7):
        target.answers[f"/{number}"] = [answer(body=b'"%d"' % number, gate=gate)]
    cloud.deploy("fan", FAN.replace("LIMIT", str(limit)))
    cloud.up()
    execution = cloud.create("fan", {"url": target.url + "/", "paths": PATHS})
    eventually(lambda: target.now == expected)
    gate.set()
    shown = cloud.wait(execution)
    assert shown["state"] == "SUCCEEDED", shown
    assert sorted(json.loads(shown["result"])) == PATHS
    assert target.most == expected


def test_all_at_once(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    fan(cloud, target, answer, eventually, 20, 6)


def test_never_more_than_the_limit(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    fan(cloud, target, answer, eventually, 2, 2)


def test_an_error_does_not_stop_the_other_iterations(cloud: Any, target: Any, answer: Any) -> None:
    for number in range(1, 7):
        target.answers[f"/{number}"] = [answer(500 if number == 3 else 200, b'"%d"' % number)]
    cloud.deploy("fan", FAN.replace("LIMIT", "2"))
    cloud.up()
    shown = cloud.wait(cloud.create("fan", {"url": target.url + "/", "paths": PATHS}))
    assert shown["state"] == "FAILED"
    payload = json.loads(shown["error"]["payload"])
    assert payload["tags"] == ["UnhandledBranchError"]
    assert [(each["id"], each["error"]["code"]) for each in payload["branches"]] == [("2", 500)]
    assert len(target.seen) == 6

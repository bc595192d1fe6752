"""parallel: really at once, never more than the limit, and shared variables that all branches write."""

import threading
from typing import Any

FAN = """
    main:
      params: [args]
      steps:
        - a: {assign: [{codes: []}]}
        - p:
            parallel:
              shared: [codes]
              concurrency_limit: ${args.limit}
              for:
                value: n
                range: [1, 6]
                steps:
                  - c: {call: http.get, args: {url: "${args.url + string(n)}"}, result: answer}
                  - s: {assign: [{codes: "${list.concat(codes, answer.code)}"}]}
        - r: {return: "${codes}"}
"""


def fan(cloud: Any, target: Any, answer: Any, eventually: Any, limit: int, expected: int) -> None:
    gate = threading.Event()
    for number in range(1, 7):
        target.answers[f"/{number}"] = [answer(210 + number, gate=gate)]
    cloud.deploy("fan", FAN)
    cloud.up()
    execution = cloud.create("fan", {"url": target.url + "/", "limit": limit})
    eventually(lambda: target.now == expected)
    gate.set()
    shown = cloud.wait(execution)
    assert shown["state"] == "SUCCEEDED", shown
    assert sorted(map(int, shown["result"].strip("[]").split(","))) == [211, 212, 213, 214, 215, 216]
    assert target.most == expected


def test_all_at_once(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    fan(cloud, target, answer, eventually, 20, 6)


def test_never_more_than_the_limit(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    fan(cloud, target, answer, eventually, 2, 2)


def test_an_error_does_not_stop_the_other_branches(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/3"] = [answer(500)]
    cloud.deploy("fan", FAN)
    cloud.up()
    shown = cloud.wait(cloud.create("fan", {"url": target.url + "/", "limit": 2}))
    assert shown["state"] == "FAILED"
    assert '"UnhandledBranchError"' in shown["error"]["payload"]
    assert len(target.seen) == 6

"""kill -9 at any moment: an execution goes on where it was, and calls that were answered are not sent again."""

import json
import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from typing import Any

STEPS = """
    main:
      params: [url]
      steps:
        - a: {assign: [{id: "${sys.get_env(\\"GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID\\")}"}]}
        - one: {call: http.post, args: {url: "${url + \\"one\\"}", body: {id: "${id}"}}, result: first}
        - two: {call: http.post, args: {url: "${url + \\"two\\"}", body: {id: "${id}"}}, result: second}
        - three: {call: http.post, args: {url: "${url + \\"three\\"}", body: {id: "${id}"}}}
        - r: {return: {first: "${first.body.n}", second: "${second.body.n}"}}
"""


def test_killed_between_and_during_calls(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    gate = threading.Event()
    target.answers["/one"] = [answer(body=b'{"n": 1}')]
    target.answers["/two"] = [answer(gate=gate), answer(body=b'{"n": 2}')]
    cloud.deploy("steps", STEPS)
    cloud.up()
    execution = cloud.create("steps", target.url + "/")
    eventually(lambda: target.count("/two") == 1)
    cloud.kill()
    cloud.up()
    shown = cloud.wait(execution)
    gate.set()
    assert shown["state"] == "SUCCEEDED", shown
    result = json.loads(shown["result"])
    assert (result["first"], result["second"]) == (1, 2)
    assert [target.count(path) for path in ("/one", "/two", "/three")] == [1, 2, 1]
    assert len({each.body for each in target.seen}) == 1


def test_the_source_is_the_one_it_began_with(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    gate = threading.Event()
    target.answers["/two"] = [answer(gate=gate), answer(body=b'{"n": 2}')]
    target.answers["/one"] = [answer(body=b'{"n": 1}')]
    cloud.deploy("steps", STEPS)
    cloud.up()
    execution = cloud.create("steps", target.url + "/")
    eventually(lambda: target.count("/two") == 1)
    cloud.kill()
    gate.set()
    cloud.deploy("steps", "main: {steps: [{a: {return: new}}]}")
    cloud.up()
    old = cloud.wait(execution)
    assert json.loads(old["result"])["second"] == 2
    new = cloud.wait(cloud.create("steps"))
    assert json.loads(new["result"]) == "new"
    assert old["workflowRevisionId"][:6] == "000001"
    assert new["workflowRevisionId"][:6] == "000002"


def test_a_wait_ends_when_it_would_have(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    source = """
    main:
      params: [url]
      steps:
        - t:
            try: {call: http.get, args: {url: "${url}"}}
            retry: {predicate: "${always}", max_retries: 1, backoff: {initial_delay: 8, max_delay: 8, multiplier: 1}}
    always: {params: [e], steps: [{r: {return: true}}]}
    """
    target.answers["/"] = [answer(503), answer()]
    cloud.deploy("waits", source)
    cloud.up()
    execution = cloud.create("waits", target.url + "/")
    eventually(partial(rows, cloud, "facts"))
    cloud.kill()
    time.sleep(6)  # the stand-in is down while the wait goes on
    back = time.monotonic()
    cloud.up()
    assert cloud.wait(execution)["state"] == "SUCCEEDED"
    one, two = target.seen
    assert two.at - one.at >= 8
    assert two.at - back < 8, "the wait did not begin again"


def test_parallel_iterations_keep_the_order_of_their_answers(
    cloud: Any, target: Any, answer: Any, eventually: Any
) -> None:
    """The shared text is built in the order the answers came; a replay must build the same one."""
    last = threading.Event()
    gates = {name: threading.Event() for name in "abc"}
    for name, gate in gates.items():
        target.answers[f"/{name}"] = [answer(gate=gate)]
    target.answers["/last"] = [answer(gate=last), answer()]
    source = """
    main:
      params: [args]
      steps:
        - a: {assign: [{order: ""}]}
        - p:
            parallel:
              shared: [order]
              for:
                value: n
                in: ${args.names}
                steps:
                  - c: {call: http.get, args: {url: "${args.url + n}"}}
                  - s: {assign: [{order: "${order + n}"}]}
        - l: {call: http.post, args: {url: "${args.url + \\"last\\"}", body: "${order}"}}
        - r: {return: "${order}"}
    """
    cloud.deploy("order", source)
    cloud.up()
    execution = cloud.create("order", {"url": target.url + "/", "names": [*"abc"]})
    eventually(lambda: len(target.seen) == 3)
    for number, name in enumerate("cab"):
        gates[name].set()
        eventually(partial(rows, cloud, "outcomes", number))
    eventually(lambda: target.count("/last") == 1)
    cloud.kill()
    last.set()
    cloud.up()
    assert json.loads(cloud.wait(execution)["result"]) == "cab"
    bodies = [each.body for each in target.seen if each.path == "/last"]
    assert len(bodies) == 2
    assert set(bodies) == {b"cab"}


def rows(cloud: Any, table: str, more_than: int = 0) -> bool:
    """True when the journal has that many rows, so that what comes next comes after them."""
    path = cloud.layout.path("workflows", "executions.sqlite")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return bool(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > more_than)


def test_killed_again_and_again(cloud: Any, target: Any) -> None:
    """Every acknowledged execution ends, whatever is killed when; each call is sent at least once, answered once."""
    source = """
    main:
      params: [url]
      steps:
        - a: {assign: [{n: 0}, {path: "${url}"}]}
        - b: {assign: [{n: "${n + 1}"}, {path: "${path + \\"x\\"}"}]}
        - c: {call: http.get, args: {url: "${path}"}}
        - d: {switch: [{condition: "${n != 30}", next: b}]}
        - r: {return: "${n}"}
    """
    cloud.deploy("many", source)
    cloud.up()
    executions = [cloud.create("many", f"{target.url}/{number}-") for number in range(3)]
    for _ in range(4):
        time.sleep(0.1)  # the moment of the kill is arbitrary on purpose
        cloud.kill()
        cloud.up()
    for number, execution in enumerate(executions):
        assert json.loads(cloud.wait(execution)["result"]) == 30
        counts = [target.count(f"/{number}-" + "x" * n) for n in range(1, 31)]
        assert min(counts) == 1
        assert sum(counts) <= 30 + 4


def test_sigterm_leaves_executions_to_the_next_start(cloud: Any, target: Any, answer: Any, eventually: Any) -> None:
    gate = threading.Event()
    target.answers["/one"] = [answer(gate=gate), answer(body=b'{"n": 1}')]
    target.answers["/two"] = [answer(body=b'{"n": 2}')]
    cloud.deploy("steps", STEPS)
    cloud.up()
    execution = cloud.create("steps", target.url + "/")
    eventually(lambda: target.count("/one") == 1)
    began = time.monotonic()
    cloud.down()
    assert time.monotonic() - began < 8, "it did not wait for the answer"
    gate.set()
    cloud.up()
    assert cloud.wait(execution)["state"] == "SUCCEEDED"

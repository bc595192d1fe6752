"""Loading: what is not the documented syntax, or not known here, is refused with file, line and column."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from local.workflows.loader import Refused, load

HEAD = "main:\n  steps:\n"
STEPS = {
    "unknown_key": ("- a:\n    asign: [{x: 1}]", "4:7: unknown key 'asign'"),
    "two_actions": ("- a:\n    assign: [{x: 1}]\n    return: 1", "4:7: step 'a' has both 'assign' and 'return'"),
    "nothing_to_do": ("- a: {}", "3:8: step 'a' does nothing"),
    "same_name": ("- a: {return: 1}\n- a: {return: 1}", "4:5: step name 'a'"),
    "same_name_nested": (
        "- a:\n    switch:\n    - condition: true\n      steps:\n      - a: {return: 1}",
        "7:11: step name 'a'",
    ),
    "reserved_name": ("- end: {return: 1}", "3:5: step name 'end'"),
    "unknown_target": ("- a: {assign: [{x: 1}], next: b}", "3:5: next: 'b'"),
    "jump_out_of_parallel": (
        "- p: {parallel: {for: {value: v, in: x, steps: [{b: {assign: [{y: 1}], next: c}}]}}}\n- c: {return: 1}",
        "3:52: next: 'c'",
    ),
    "jump_into_nested_steps": (
        "- a: {switch: [{condition: true, steps: [{b: {assign: [{x: 1}]}}]}]}\n- c: {assign: [{x: 1}], next: b}",
        "4:5: next: 'b'",
    ),
    "return_in_parallel": (
        "- a: {parallel: {for: {value: v, in: x, steps: [{b: {return: 1}}]}}}",
        "3:52: a parallel iteration cannot return",
    ),
    "not_shared": (
        "- a: {assign: [{x: 1}]}\n- p: {parallel: {for: {value: v, in: x, steps: [{b: {assign: [{x: 2}]}}]}}}",
        "4:66: variable 'x' is outside and not shared",
    ),
    "result_not_shared": (
        "- a: {assign: [{x: 1}]}\n- p: {parallel: {for: {value: v, in: x, steps: [{b: {call: sub2, result: x}}]}}}",
        "4:76: variable 'x' is outside and not shared",
    ),
    "shared_does_not_exist": (
        "- p: {parallel: {shared: [x], for: {value: v, in: x, steps: [{b: {assign: [{x: 2}]}}]}}}",
        "3:19: shared variable 'x'",
    ),
    "limit_of_none": (
        "- p: {parallel: {concurrency_limit: 0, for: {value: v, in: x, steps: [{b: {raise: a}}]}}}",
        "3:39: concurrency_limit is at least 1",
    ),
    "unknown_variable": ('- a: {return: "${x}"}', "3:17: unknown variable 'x'"),
    "iteration_variable_outside": (
        '- a: {parallel: {for: {value: v, in: x, steps: [{b: {assign: [{y: 1}]}}]}}}\n- r: {return: "${v}"}',
        "4:17: unknown variable 'v'",
    ),
    "error_variable_outside": (
        "- a: {try: {steps: [{b: {raise: x}}]}, except: {as: e, steps: [{c: {assign: [{x: 1}]}}]}}\n"
        '- r: {return: "${e}"}',
        "4:17: unknown variable 'e'",
    ),
    "iteration_variable_reused": (
        "- a: {assign: [{v: 1}]}\n- p: {parallel: {for: {value: v, in: x, steps: [{b: {raise: x}}]}}}",
        "4:19: variable 'v' is used outside",
    ),
    "unknown_function": ('- a: {return: "${shout(1)}"}', "'shout' cannot be called"),
    "blocking_in_expression": ('- a: {return: "${http.get(1)}"}', "use a call step"),
    "subworkflow_in_expression": ('- a: {return: "${sub(1)}"}', "use a call step"),
    "arguments": ('- a: {return: "${get_type()}"}', "3:17: get_type takes value"),
    "unknown_call": ("- a: {call: googleapis.storage.v1.objects.get}", "3:15: unknown function"),
    "call_of_main": ("- a: {call: main}", "unknown function or subworkflow 'main'"),
    "missing_argument": ("- a: {call: http.get}", "http.get needs 'url'"),
    "unknown_argument": ("- a: {call: http.get, args: {url: a, bdy: b}}", "http.get has no parameter 'bdy'"),
    "missing_parameter": ("- a: {call: sub}", "sub needs 'p'"),
    "interpolation": ('- a: {return: "hello ${1}"}', "3:17: an expression is the whole string"),
    "long_expression": ('- a: {return: "${' + "1 + " * 100 + '1}"}', "at most 400"),
    "bad_expression": ('- a: {return: "${1 +}"}', "3:17: bad expression"),
    "yes": ("- a: {return: yes}", "3:17: 'yes' is not text"),
    "date": ("- a: {return: 2024-01-01}", "3:17: '2024-01-01' is not text"),
    "octal": ("- a: {return: 010}", "3:17: '010' is not text"),
    "anchor": ("- a: {return: &x 1}", "3:17: anchors"),
    "duplicate_key": ("- a: {return: {x: 1, x: 2}}", "'x' is given twice"),
    "try_alone": ("- a: {try: {steps: [{b: {raise: x}}]}}", "try needs 'retry' or 'except'"),
    "except_without_as": ("- a: {try: {call: sub2}, except: {steps: [{b: {raise: x}}]}}", "except needs 'as'"),
    "retry_alone": ("- a: {call: sub2, retry: {}}", "3:28: 'retry' in step 'a' needs 'try'"),
    "partial_retry": (
        "- a: {try: {call: sub2}, retry: {predicate: '${sub}', max_retries: 3}}",
        "retry needs 'backoff'",
    ),
    "predicate": (
        "- a: {try: {call: sub2}, retry: {predicate: '${sub2}', max_retries: 3, "
        "backoff: {initial_delay: 1, max_delay: 1, multiplier: 1}}}",
        "'sub2' is not a subworkflow with one parameter",
    ),
    "next_after_return": ("- a: {return: 1, next: a}", "nothing follows 'return'"),
    "callback": ("- a: {call: events.await_callback, args: {}}", "3:15: unknown function"),
}
LOOP = "- p: {parallel: {%sfor: {%sin: x, steps: [{b: {assign: [{y: 1}]}}]}}}"
RETRY = (
    "- a: {try: {call: sub2}, "
    "retry: {predicate: '${sub}', max_retries: %s, backoff: {initial_delay: %s, max_delay: 1, multiplier: 1}}}"
)
NOT_OURS = {
    "nested_steps": ("- a: {steps: [{b: {return: 1}}]}", "3:9: unknown key 'steps' in step 'a'"),
    "for": ("- a: {for: {value: v, in: x, steps: [{b: {raise: x}}]}}", "3:9: unknown key 'for' in step 'a'"),
    "only_next": ("- a: {next: b}\n- b: {return: 1}", "3:8: step 'a' does nothing"),
    "end": ("- a: {assign: [{x: 1}], next: end}", "3:5: next: 'end'"),
    "break": ("- a: {assign: [{x: 1}], next: break}", "3:5: next: 'break'"),
    "continue_in_parallel": (
        "- a: {parallel: {for: {value: v, in: x, steps: [{b: {assign: [{y: 1}], next: continue}}]}}}",
        "3:52: next: 'continue'",
    ),
    "branches": ("- p: {parallel: {branches: [{b: {steps: [{s: {raise: a}}]}}]}}", "3:20: unknown key 'branches'"),
    "exception_policy": (
        LOOP % ("exception_policy: continueAll, ", "value: v, "),
        "3:20: unknown key 'exception_policy'",
    ),
    "index": (LOOP % ("", "value: v, index: i, "), "3:36: unknown key 'index' in for"),
    "range": (LOOP % ("", "value: v, range: [1, 2], "), "3:36: unknown key 'range' in for"),
    "limit_by_expression": (
        LOOP % ("concurrency_limit: '${1}', ", "value: v, "),
        "3:39: concurrency_limit is an integer",
    ),
    "case_that_assigns": (
        "- s: {switch: [{condition: true, assign: [{x: 1}]}]}",
        "3:36: unknown key 'assign' in a condition",
    ),
    "case_that_calls": ("- s: {switch: [{condition: true, call: sub2}]}", "3:36: unknown key 'call' in a condition"),
    "case_of_nothing": ("- s: {switch: [{condition: true}]}", "3:18: a condition needs one of"),
    "assign_into_a_map": ("- a: {assign: [{x: 1}, {x.y: 1}]}", "3:27: 'x.y' is not a variable name"),
    "assign_into_a_list": ("- a: {assign: [{x: 1}, {'x[0]': 1}]}", "3:27: 'x[0]' is not a variable name"),
    "variable_like_a_word": ("- a: {assign: [{not: 1}]}", "3:19: 'not' is not a variable name"),
    "list": ("- a: {return: [1, 2]}", "3:17: return is a single value"),
    "list_in_a_map": ("- a: {return: {x: [1]}}", "3:21: return is a single value"),
    "expression_as_key": ("- a: {return: {'${1}': 1}}", "3:18: the key of a map is no expression"),
    "null": ("- a: {return: null}", "3:17: 'null' is not text"),
    "nothing": ("- a: {return: }", "3:16: '' is not text"),
    "double": ("- a: {return: 1.5}", "3:17: '1.5' is not text"),
    "function_as_a_step": ("- a: {call: map.get, args: {map: x, keys: y}}", "3:15: unknown function 'map.get'"),
    "type_as_a_step": ("- a: {call: get_type, args: {value: x}}", "3:15: unknown function or subworkflow 'get_type'"),
    "sleep": ("- a: {call: sys.sleep, args: {seconds: 1}}", "3:15: unknown function 'sys.sleep'"),
    "log": ("- a: {call: sys.log, args: {text: x}}", "3:15: unknown function 'sys.log'"),
    "http_request": ("- a: {call: http.request, args: {method: GET, url: x}}", "3:15: unknown function 'http.request'"),
    "oauth2": ("- a: {call: http.get, args: {url: x, auth: {type: OAuth2}}}", "3:53: the only type of auth is OIDC"),
    "scopes": (
        "- a: {call: http.get, args: {url: x, auth: {type: OIDC, scopes: x}}}",
        "3:59: unknown key 'scopes' in auth",
    ),
    "auth_by_expression": ("- a: {call: http.get, args: {url: x, auth: '${1}'}}", "3:46: auth is a map"),
    "auth_type_by_expression": (
        "- a: {call: http.get, args: {url: x, auth: {type: '${1}'}}}",
        "3:53: type is a name",
    ),
    "policy": ("- a: {try: {call: sub2}, retry: '${http.default_retry}'}", "3:35: retry is a map"),
    "default_predicate": (
        (RETRY % (1, 1)).replace("${sub}", "${http.default_retry_predicate}"),
        "3:47: a predicate is the name of a subworkflow",
    ),
    "retries_by_expression": (RETRY % ("'${1}'", 1), "3:70: max_retries is an integer"),
    "part_of_a_second": (RETRY % (1, 0.5), "3:98: '0.5' is not text"),
    "negative_wait": (RETRY % (1, -1), "3:98: initial_delay is an integer that is not negative"),
}
for _name in (
    "sys.now()", "uuid.generate()", "default(1, 2)", "double(1)", "if(1, 2, 3)", "int(1)", "keys(1)", "len(1)",
    "string(1)", "json.decode(1)", "json.encode(1)", "json.encode_to_string(1)", "list.concat(1, 2)",
    "list.prepend(1, 2)", "math.abs(1)", "math.floor(1)", "math.max(1, 2)", "math.min(1, 2)", "text.decode(1)",
    "text.encode(1)", "text.replace_all(1, 2, 3)", "text.split(1, 2)", "text.substring(1, 2, 3)", "text.to_lower(1)",
    "text.to_upper(1)", "text.url_encode(1)", "time.format(1)",
):  # fmt: skip
    NOT_OURS[_name] = (f"- a: {{return: '${{{_name}}}'}}", f"3:17: '{_name.partition('(')[0]}' cannot be called")
for _text in (
    "2 - 1", "2 * 1", "2 / 1", "2 // 1", "2 % 1", "-1", "1 < 2", "1 <= 2", "1 > 2", "not x", "x[0]", "1.5", "true",
    "null", "1 == 1 AND 1 == 1",
):  # fmt: skip
    NOT_OURS[_text] = (f"- x: {{assign: [{{x: 1}}]}}\n- a: {{return: '${{{_text}}}'}}", "4:17: bad expression")
TAIL = "sub:\n  params: [p]\n  steps:\n  - s: {return: 1}\n"
TAIL += "sub2:\n  steps:\n  - t: {return: 1}\n"


@pytest.mark.parametrize("name", [*STEPS, *NOT_OURS])
def test_step(name: str) -> None:
    steps, message = {**STEPS, **NOT_OURS}[name]
    with pytest.raises(Refused) as refused:
        load("w", "w.yaml", HEAD + indent(steps, "  ") + "\n" + TAIL)
    assert str(refused.value).startswith("w.yaml:")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "w.yaml:1:1: "),
        ("- a: {return: 1}", "w.yaml:1:1: a workflow is a map"),
        ("sub: {steps: [{a: {return: 1}}]}", "needs 'main'"),
        ("main: {steps: []}", "w.yaml:1:15: steps is a list of at least one"),
        ("main: {params: [a, b], steps: [{r: {return: 1}}]}", "one parameter at most"),
        ("main:\n  steps:\n    - a: [", "w.yaml:4:1: not YAML"),
        (
            "main: {steps: [{a: {return: 1}}]}\ns: {params: [{a: 1}], steps: [{b: {return: 1}}]}",
            "w.yaml:2:14: a parameter is",
        ),
        (
            "main: {steps: [{a: {return: 1}}]}\ns: {params: [a, a], steps: [{b: {return: 1}}]}",
            "w.yaml:2:17: parameter 'a'",
        ),
        ("main: {steps: [{a: {return: 1}}]}\ninput: 3", "w.yaml:2:8: input is a map"),
    ],
)
def test_document(source: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        load("w", "w.yaml", source + "\n")
    assert message in str(refused.value)


def test_a_step_that_is_right_is_not_refused() -> None:
    load("w", "w.yaml", HEAD + "  - a: {return: 1}\n" + TAIL)


def test_the_process_ends_and_says_where(cloud: Any) -> None:
    cloud.deploy("good", "main: {steps: [{a: {return: 1}}]}")
    cloud.deploy("bad", "main:\n  steps:\n    - a: {jump: 1}")
    command = [sys.executable, "-m", "local.workflows", "--layout", str(cloud.layout.path("layout.json"))]
    ended = subprocess.run(
        [*command, "--workflows", str(cloud.folder)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("bad.yaml:3:11: unknown key 'jump' in step 'a'")


def test_every_deployed_workflow_loads() -> None:
    for path in sorted((Path(__file__).parents[3] / "workflows").glob("*.yaml")):
        load(path.stem, path.name, dedent(path.read_text()))

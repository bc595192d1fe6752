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
    "same_name_nested": ("- a:\n    steps:\n    - a: {return: 1}", "5:9: step name 'a'"),
    "reserved_name": ("- end: {return: 1}", "3:5: step name 'end'"),
    "unknown_target": ("- a: {assign: [{x: 1}], next: b}", "3:5: next: 'b'"),
    "jump_out_of_a_loop": (
        "- a:\n    for:\n      value: v\n      in: [1]\n      steps:\n      - b: {raise: x}\n      - d: {next: c}\n"
        "- c: {return: 1}",
        "9:11: next: 'c'",
    ),
    "jump_into_nested_steps": ("- a: {steps: [{b: {assign: [{x: 1}]}}]}\n- c: {next: b}", "4:5: next: 'b'"),
    "break_outside": ("- a: {next: break}", "3:5: next: 'break'"),
    "break_in_parallel": (
        "- a: {parallel: {for: {value: v, in: [1], steps: [{b: {next: break}}]}}}",
        "3:54: next: 'break'",
    ),
    "return_in_parallel": (
        "- a: {parallel: {for: {value: v, in: [1], steps: [{b: {return: 1}}]}}}",
        "3:54: a parallel branch cannot return",
    ),
    "not_shared": (
        "- a: {assign: [{x: 1}]}\n- p: {parallel: {for: {value: v, in: [1], steps: [{b: {assign: [{x: 2}]}}]}}}",
        "variable 'x' is outside and not shared",
    ),
    "shared_does_not_exist": (
        "- p: {parallel: {shared: [x], for: {value: v, in: [1], steps: [{b: {assign: [{x: 2}]}}]}}}",
        "3:19: shared variable 'x'",
    ),
    "one_branch": ("- p: {parallel: {branches: [{b: {steps: [{s: {raise: a}}]}}]}}", "2 to 10 branches"),
    "other_policy": (
        "- p: {parallel: {exception_policy: failFast, for: {value: v, in: [1], steps: [{b: {raise: a}}]}}}",
        "the only exception_policy",
    ),
    "unknown_variable": ('- a: {return: "${x}"}', "3:17: unknown variable 'x'"),
    "loop_variable_outside": (
        '- a: {for: {value: v, in: [1], steps: [{b: {assign: [{x: 1}]}}]}}\n- r: {return: "${x}"}',
        "4:17: unknown variable 'x'",
    ),
    "error_variable_outside": (
        "- a: {try: {steps: [{b: {raise: x}}]}, except: {as: e, steps: [{c: {assign: [{x: 1}]}}]}}\n"
        '- r: {return: "${e}"}',
        "4:17: unknown variable 'e'",
    ),
    "loop_variable_reused_inside": (
        "- a: {for: {value: v, in: [1], steps: [{b: {for: {value: v, in: [1], steps: [{c: {raise: x}}]}}}]}}",
        "variable 'v' is used outside",
    ),
    "unknown_function": ('- a: {return: "${shout(1)}"}', "'shout' cannot be called"),
    "blocking_in_expression": ('- a: {return: "${http.get(1)}"}', "use a call step"),
    "subworkflow_in_expression": ('- a: {return: "${sub(1)}"}', "use a call step"),
    "arguments": ('- a: {return: "${len()}"}', "len takes value"),
    "unknown_call": ("- a: {call: googleapis.storage.v1.objects.get}", "3:15: unknown function"),
    "call_of_main": ("- a: {call: main}", "unknown function or subworkflow 'main'"),
    "missing_argument": ("- a: {call: http.get}", "http.get needs 'url'"),
    "unknown_argument": ("- a: {call: http.get, args: {url: a, bdy: b}}", "http.get has no parameter 'bdy'"),
    "missing_parameter": ("- a: {call: sub}", "sub needs 'p'"),
    "interpolation": ('- a: {return: "hello ${1}"}', "3:17: an expression is the whole string"),
    "long_expression": ('- a: {return: "${' + "1 + " * 100 + '1}"}', "at most 400"),
    "bad_expression": ('- a: {return: "${1 +}"}', "3:17: bad expression"),
    "yes": ("- a: {return: yes}", "3:17: YAML versions disagree"),
    "date": ("- a: {return: 2024-01-01}", "YAML versions disagree"),
    "octal": ("- a: {return: 010}", "YAML versions disagree"),
    "anchor": ("- a: {return: &x 1}", "3:17: anchors"),
    "duplicate_key": ("- a: {return: {x: 1, x: 2}}", "'x' is given twice"),
    "for_after_try": ("- a: {try: {for: {value: v, in: [1], steps: []}}, except: {}}", "unknown key 'for' in try"),
    "try_alone": ("- a: {try: {steps: [{b: {raise: x}}]}}", "try needs 'retry' or 'except'"),
    "except_without_as": ("- a: {try: {call: sub2}, except: {steps: [{b: {raise: x}}]}}", "except needs 'as'"),
    "retry_alone": ("- a: {call: sub2, retry: '${http.default_retry}'}", "'retry' in step 'a' needs 'try'"),
    "unknown_policy": ("- a: {try: {call: sub2}, retry: '${http.retry}'}", "unknown retry policy"),
    "partial_retry": (
        "- a: {try: {call: sub2}, retry: {predicate: '${http.default_retry_predicate}', max_retries: 3}}",
        "retry needs 'backoff'",
    ),
    "predicate": (
        "- a: {try: {call: sub2}, retry: {predicate: '${sub2}', max_retries: 3, "
        "backoff: {initial_delay: 1, max_delay: 1, multiplier: 1}}}",
        "'sub2' is not a subworkflow with one parameter",
    ),
    "range_and_in": ("- a: {for: {value: v, in: [1], range: [1, 2], steps: [{b: {raise: x}}]}}", "either 'in'"),
    "assign_to_a_call": ("- a: {assign: [{len(x): 1}]}", "cannot assign"),
    "assign_into_nothing": ("- a: {assign: [{x.y: 1}]}", "unknown variable 'x'"),
    "next_after_return": ("- a: {return: 1, next: end}", "nothing follows 'return'"),
    "callback": ("- a: {call: events.await_callback, args: {}}", "unknown function"),
}
TAIL = "sub:\n  params: [p]\n  steps:\n  - s: {next: end}\n".replace("{next: end}", "{return: 1}")
TAIL += "sub2:\n  steps:\n  - t: {return: 1}\n"


@pytest.mark.parametrize("name", sorted(STEPS))
def test_step(name: str) -> None:
    steps, message = STEPS[name]
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
        ("main: {steps: [{a: {call: s}}]}\ns: {steps: [{b: {next: end}}]}", "w.yaml:2:"),
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

"""Faults for every .tf file: each is a text with one thing wrong, and what must be said of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tools.terraform import schema
from tools.terraform.schema import Block

HEAD = re.compile(r"^(?=(?:[a-z]+(?: \"[\w-]+\")*|locals) \{)", re.MULTILINE)
MADE = re.compile(r'^(resource|data|ephemeral) "(\w+)" "(\w+)" \{')
OPENS = re.compile(r'^ *(?:dynamic )?"?(\w+)"? \{')
ATTRIBUTE = re.compile(r"^( +)([a-z]\w*)( += )")
REFERENCE = re.compile(r"\b(var|local)\.(\w+)")
ROLE = re.compile(r'"roles/(\w+)\.([\w.]+)"')
TOLD = re.compile(r"^\s*(#|//|description|error_message)")
MOST = {"attribute": 6, "missing": 5, "type": 2, "variable": 5, "role": 12}  # of a file, spread over it


@dataclass(frozen=True)
class Seed:
    """A fault: its kind, the chunk of the file that it is in, the chunk with it, and a pattern of what is said."""

    kind: str
    chunk: str
    text: str
    said: str


def chunks(file: str, text: str) -> dict[str, str]:
    """The blocks at the top of a file, each as if it were a file: so that a fault costs no more than its block."""
    return {f"{file}#{at}": chunk for at, chunk in enumerate(HEAD.split(text)) if HEAD.match(chunk)}


def seeds(of_file: dict[str, str]) -> list[Seed]:
    """Faults of a file, by its chunks."""
    found: dict[str, list[Seed]] = {kind: [] for kind in MOST}
    for name, text in of_file.items():
        for seed in _seeds(name, text):
            found[seed.kind].append(seed)
    return [seed for kind, most in MOST.items() for seed in _spread(found[kind], most)]


def _spread(of_kind: list[Seed], most: int) -> Iterator[Seed]:
    return islice(of_kind, 0, None, max(1, -(-len(of_kind) // most)))


def _seeds(name: str, text: str) -> Iterator[Seed]:
    lines = text.split("\n")
    made = MADE.match(text)
    if made:
        yield Seed("type", name, text.replace(f'"{made[2]}"', f'"{made[2]}_x"', 1), f"unknown {made[1]} type .*_x")
        yield from _of_attributes(name, lines, made)
    for at, line in enumerate(lines):
        if TOLD.match(line):
            continue
        code = re.split(r" #", line)[0]
        for hit in REFERENCE.finditer(code):
            wrong = f"{line[: hit.end()]}_x{line[hit.end() :]}"
            kind = "variable" if hit[1] == "var" else "local"
            yield Seed("variable", name, _with(lines, at, wrong), f'unknown {kind} "{hit[2]}_x"')
        for hit in ROLE.finditer(code):
            for wider in ("editor", f"{hit[1]}.admin"):
                wrong = f'{line[: hit.start()]}"roles/{wider}"{line[hit.end() :]}'
                yield Seed("role", name, _with(lines, at, wrong), "grants.yaml|no role for anybody")


def _of_attributes(name: str, lines: list[str], made: re.Match[str]) -> Iterator[Seed]:
    """Misspelt and missing arguments of a resource and of the blocks in it."""
    inside: list[str | None] = []  # names of the blocks that a line is in; None: a value, and no block
    block = _block(made[1], made[2])
    for at, line in enumerate(lines):
        hit = ATTRIBUTE.match(line)
        if hit and None not in inside and (hit[2] != "provider" or made[2] in schema.load()["google"][made[1]]):
            wrong = f"{hit[1]}{hit[2]}_x{line[hit.end(2) :]}"
            yield Seed("attribute", name, _with(lines, at, wrong), f'"{hit[2]}_x"|lacks {hit[2]}')
            if len(inside) == 1 and hit[2] in block["a"] and "r" in block["a"][hit[2]][0]:
                rest = lines[:at] + lines[_end(lines, at) :]
                yield Seed("missing", name, "\n".join(rest), f'missing required attribute "{hit[2]}"')
        opened = OPENS.match(line)
        if opened and len(inside) == 1 and block["b"].get(opened[1], [0, 0])[1] and "dynamic" not in line:
            alone = sum(bool(re.match(rf"^  {opened[1]} \{{", other)) for other in lines) == 1
            if alone:
                rest = lines[:at] + lines[_end(lines, at) :]
                yield Seed("missing", name, "\n".join(rest), f'missing required block "{opened[1]}"')
        _step(inside, line, opened)


def _step(inside: list[str | None], line: str, opened: re.Match[str] | None) -> None:
    code = re.sub(r'"(?:[^"\\]|\\.)*"', '""', re.split(r" #", line)[0])
    depth = sum(code.count(bracket) for bracket in "{[(") - sum(code.count(bracket) for bracket in "}])")
    for _ in range(depth):
        inside.append(opened[1] if opened else "top" if not inside else None)
    del inside[len(inside) + min(depth, 0) :]


def _end(lines: list[str], at: int) -> int:
    """The line after the value or block that begins in a line."""
    inside: list[str | None] = []
    for after in range(at, len(lines)):
        _step(inside, lines[after], None)
        if not inside:
            return after + 1
    return len(lines)


def _block(kind: str, name: str) -> Block:
    known = schema.load()
    return next(
        (known[of][kind][name] for of in ("google", "google-beta") if name in known[of][kind]), {"a": {}, "b": {}}
    )


def _with(lines: list[str], at: int, wrong: str) -> str:
    return "\n".join([*lines[:at], wrong, *lines[at + 1 :]])

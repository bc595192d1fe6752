"""Variables at run time: scopes inside scopes, and the memory that all of an execution's variables share."""

from dataclasses import dataclass

from local.workflows.evaluate import position
from local.workflows.values import MAX_MEMORY, Value, copied, fault, kind, size


@dataclass
class Memory:
    """Bytes used by the variables of one execution."""

    used: int = 0

    def change(self, difference: int) -> None:
        """Take or give back; ResourceLimitError of the language above 512 KB."""
        if difference > 0 and self.used + difference > MAX_MEMORY:
            raise fault("ResourceLimitError", f"variables use more than {MAX_MEMORY // 1024} KB")
        self.used += difference


class Scope:
    """The variables created in a routine, a loop's iteration, an except block or a parallel branch."""

    def __init__(self, memory: Memory, parent: "Scope | None" = None) -> None:
        self.memory = memory
        self.parent = parent
        self.variables: dict[str, Value] = {}

    def owner(self, name: str) -> "Scope | None":
        """The nearest scope that has the variable."""
        scope: Scope | None = self
        while scope is not None and name not in scope.variables:
            scope = scope.parent
        return scope

    def read(self, name: str) -> Value:
        """The variable's value. Raises KeyError of the language before its first assignment."""
        owner = self.owner(name)
        if owner is None:
            raise fault("KeyError", f"variable not found: {name}")
        return owner.variables[name]

    def write(self, name: str, value: Value) -> None:
        """Assign a copy: in the scope that has the variable, else here."""
        owner = self.owner(name) or self
        before = size(owner.variables[name]) if name in owner.variables else 0
        self.memory.change(size(value) - before)
        owner.variables[name] = copied(value)

    def declare(self, name: str, value: Value) -> None:
        """Create a variable in this very scope: a parameter, a loop's value, an error."""
        self.memory.change(8)
        self.variables[name] = None
        self.write(name, value)

    def write_inside(self, name: str, path: list[Value], value: Value) -> None:
        """Assign to `name.a["b"][0]`: the last key may be new in a map, everything before it must exist."""
        container = self.read(name)
        for key in path[:-1]:
            container = _inside(container, key)
        last = path[-1]
        if isinstance(container, dict):
            if not isinstance(last, str):
                raise fault("TypeError", f"a map is written by string, not by {kind(last)}")
            before = size(last) + size(container[last]) if last in container else 0
            self.memory.change(size(last) + size(value) - before)
            container[last] = copied(value)
        elif isinstance(container, list):
            place = position(container, last)
            self.memory.change(size(value) - size(container[place]))
            container[place] = copied(value)
        else:
            raise fault("TypeError", f"cannot write inside a value of type {kind(container)}")

    def close(self) -> None:
        """Forget the variables and give their memory back."""
        self.memory.change(-sum(size(value) for value in self.variables.values()))
        self.variables = {}


def _inside(container: Value, key: Value) -> Value:
    if isinstance(container, dict) and isinstance(key, str) and key in container:
        return container[key]
    if isinstance(container, list):
        return container[position(container, key)]
    if isinstance(container, dict):
        raise fault("KeyError", f"key not found: {key}")
    raise fault("TypeError", f"cannot write inside a value of type {kind(container)}")

"""Variables at run time: scopes inside scopes, and the memory that all of an execution's variables share."""

from dataclasses import dataclass

from local.workflows.values import MAX_MEMORY, Value, fault, size


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
    """The variables created in a routine, an iteration or an except block."""

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
        """Assign in the scope that has the variable, else here."""
        owner = self.owner(name) or self
        before = size(owner.variables[name]) if name in owner.variables else 0
        self.memory.change(size(value) - before)
        owner.variables[name] = value

    def declare(self, name: str, value: Value) -> None:
        """Create a variable in this very scope: a parameter, an iteration's value, an error."""
        self.memory.change(8)
        self.variables[name] = None
        self.write(name, value)

    def close(self) -> None:
        """Forget the variables and give their memory back."""
        self.memory.change(-sum(size(value) for value in self.variables.values()))
        self.variables = {}

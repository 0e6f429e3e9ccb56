"""What a pickle would do, read from its opcodes without doing any of it.

A pickle is a program. Besides naming functions to call, it can make its reader take gigabytes (a memo of four thousand
million places, a function that fills memory) or never end (sixty pairs, each the one before twice, used as a key). So
those that strangers wrote are read here first, and refused where they ask for more than containers of plain values and
the functions expected.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

MOST_OPCODES = 10_000_000
MOST_UNFOLDED = 10_000_000  # values, each counted as often as it is reached
LITERAL = 100  # characters of text that is kept, as it may be a name
BROKEN = (ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, EOFError, struct.error)

_MUTATING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_PUTTING = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETTING = {"GET", "BINGET", "LONG_BINGET"}
_REFUSED = {
    "OBJ": "an instance (OBJ)",
    "NEWOBJ": "an instance (NEWOBJ)",
    "NEWOBJ_EX": "an instance (NEWOBJ_EX)",
    "EXT1": "the extension registry (EXT1)",
    "EXT2": "the extension registry (EXT2)",
    "EXT4": "the extension registry (EXT4)",
    "PERSID": "a persistent id in text (PERSID)",
    "DUP": "a value twice (DUP)",
    "NEXT_BUFFER": "a buffer beside it (NEXT_BUFFER)",
    "READONLY_BUFFER": "a buffer beside it (READONLY_BUFFER)",
}


class Refused(Exception):
    """A pickle asks for something that it may not; the argument says for what."""


class Value:
    """A value that a pickle makes: a small literal, the name of a global, or what it is made of."""

    __slots__ = ("called", "literal", "parts", "size")

    def __init__(self, parts: Iterable[Value] = (), literal: Any = None, called: bool = False):
        self.parts = list(parts)
        self.literal = literal
        self.called = called
        self.size = 0


class _Global(Value):
    __slots__ = ()


def examine(file: BinaryIO, allowed: Callable[[str], bool], persistent: bool = False) -> list[Value]:
    """Read a pickle up to its end; returns its persistent ids, none of which there may be unless `persistent`.

    allowed: whether a dotted name may be asked for. Raises Refused, or one of BROKEN where it is no whole pickle.
    """
    machine = _Machine(allowed, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MOST_OPCODES:
            raise Refused(f"more than {MOST_OPCODES} steps")
        machine.step(opcode, argument)
    _refuse_unfolding(machine.made)
    return machine.persistent_ids


class _Machine:
    """The stack and the memo of an unpickler, with `Value` in the place of values."""

    def __init__(self, allowed: Callable[[str], bool], persistent: bool):
        self.allowed, self.persistent = allowed, persistent
        self.stack: list[Value | None] = []  # None: a mark
        self.memo: dict[int, Value] = {}
        self.made: list[Value] = []
        self.persistent_ids: list[Value] = []

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """What an opcode does to stack and memo."""
        name = opcode.name
        if name in _REFUSED:
            raise Refused(_REFUSED[name])
        if name in ("GLOBAL", "INST"):
            self._name(str(argument).replace(" ", "."))
            if name == "INST":
                raise Refused("an instance (INST)")
        elif name == "STACK_GLOBAL":
            last, module = self.stack.pop(), self.stack.pop()
            if not all(isinstance(part, Value) and isinstance(part.literal, str) for part in (module, last)):
                raise Refused("a name that is no text")
            self._name(f"{module.literal}.{last.literal}")  # type: ignore[union-attr]
        elif name == "MARK":
            self.stack.append(None)
        elif name in _PUTTING or name == "MEMOIZE":
            self._put(len(self.memo) if name == "MEMOIZE" else int(argument))
        elif name in _GETTING:
            self.stack.append(self.memo[int(argument)])
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._make(name, opcode, argument)

    def _name(self, name: str) -> None:
        if not self.allowed(name):
            raise Refused(name)
        self.stack.append(_Global())

    def _put(self, place: int) -> None:
        if place > len(self.memo) + 1:  # memory is taken for all the places before it
            raise Refused(f"place {place} of a memo of {len(self.memo)}")
        self.memo[place] = self._top()

    def _top(self) -> Value:
        top = self.stack[-1]
        if top is None:
            raise ValueError("a mark in the place of a value")
        return top

    def _make(self, name: str, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        parts = self._popped(opcode)
        if name == "BINPERSID":
            if not self.persistent:
                raise Refused("a persistent id (BINPERSID)")
            self.persistent_ids.append(parts[0])
        if name == "REDUCE" and not isinstance(parts[0], _Global):
            raise Refused("a call of something without a name")
        if name in _MUTATING:
            if name == "BUILD" and not parts[0].called:
                raise Refused("to change what it did not make (BUILD)")
            parts[0].parts += parts[1:]
            self.stack.append(parts[0])
        elif opcode.stack_after:
            is_name = isinstance(argument, str) and len(argument) <= LITERAL
            literal = argument if is_name or isinstance(argument, int) else None
            self.stack.append(Value(parts, literal, called=name == "REDUCE"))
            if parts:
                self.made.append(self._top())

    def _popped(self, opcode: pickletools.OpcodeInfo) -> list[Value]:
        """The values that an opcode takes from the stack, the deepest first."""
        before = list(opcode.stack_before)
        parts: list[Value | None] = []
        if pickletools.markobject in before:
            place = len(self.stack) - 1 - self.stack[::-1].index(None)
            parts = self.stack[place + 1 :]
            del self.stack[place:]
            before = before[: before.index(pickletools.markobject)]
        elif opcode.name == "POP" and self.stack[-1] is None:
            self.stack.pop()
            return []
        if before:
            parts = self.stack[-len(before) :] + parts
            if len(self.stack) < len(before):
                raise ValueError("too few values")
            del self.stack[-len(before) :]
        if any(part is None for part in parts):
            raise ValueError("a mark in the place of a value")
        return [part for part in parts if part is not None]


def _refuse_unfolding(made: Iterable[Value]) -> None:
    """Refuse values that are small only as long as what they share is counted once, or that are within themselves."""
    for start in made:
        waiting = [start]
        while waiting:
            value = waiting[-1]
            if value.size == 0:
                value.size = -1  # begun
                waiting += [part for part in value.parts if part.size == 0]
                if any(part.size == -1 for part in value.parts):
                    raise Refused("a value within itself")
                continue
            waiting.pop()
            if value.size == -1:
                value.size = 1 + sum(part.size for part in value.parts)
                if value.size > MOST_UNFOLDED:
                    raise Refused("values that unfold without end")

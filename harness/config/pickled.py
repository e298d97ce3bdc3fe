"""A pickle of foreign origin, read as data: no name that it asks for is ever looked up.

Python's own reader imports what a file names, and believes what a file says of its size: seven bytes make it fill
34 GB. Here a name stands for what its reader has `admitted` for it, arrays keep their bytes until they are asked for
numbers, and neither steps nor bytes go beyond what such files have.
"""

from __future__ import annotations

import mmap
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 1_000_000  # of a file; the largest known, a checkpoint with an optimizer's state, has a tenth
FIELDS = 16  # of a named tuple

_PUSHED = re.compile(r"(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|(SHORT_)?(BIN)?(STRING|BYTES|UNICODE)8?")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
_KEYS = (str, bytes, int)  # Python overruns its stack on the hash of what is nested too deeply
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError)


class PickleError(ValueError):
    """What is wrong with a file, to be said behind its name."""


class RefusedError(PickleError):
    """It asks for what data needs none of."""


@dataclass
class Budget:
    """Bytes that may still be made of a file: one that names its own again and again may not fill the memory."""

    left: int

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise PickleError("names the same bytes more often than any data does")


@dataclass(frozen=True)
class Named:
    """What a name of the file stands for: called with the file's arguments, and the budget before them."""

    make: Callable[..., Any]


class Array:
    """Stands for numpy.ndarray: keeps what an array's pickle says until it is asked for its numbers."""

    state: Any = None

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def numpy(self, kinds: str) -> np.ndarray:
        """Its numbers, of a kind that the expression admits, as `f[48]`; ValueError where they are of another."""
        _, shape, kind, columns_first, data = self.state
        if isinstance(data, str):  # of Python 2
            data = data.encode("latin1")
        if not (isinstance(kind, _Kind) and re.fullmatch(kinds, kind.code) and isinstance(data, bytes)):
            raise ValueError("an array of it holds other numbers, or none")
        self._budget.spend(len(data))
        return np.frombuffer(data, kind.order + kind.code).reshape(shape, order="F" if columns_first else "C")


class _Kind:
    """Stands for numpy.dtype."""

    order = "<"

    def __init__(self, _budget: Budget, code: Any, *_: Any) -> None:
        self.code = str(code)


def _encoded(budget: Budget, text: str, encoding: str) -> bytes:
    """Stands for _codecs.encode: how pickles of protocol 2 hold bytes."""
    if encoding != "latin1":
        raise PickleError(f"has bytes in {encoding}")
    budget.spend(len(text))
    return text.encode("latin1")


ARRAYS = {
    "_codecs.encode": Named(_encoded),
    "numpy.ndarray": Named(Array),
    "numpy.dtype": Named(_Kind),
    "numpy.core.multiarray._reconstruct": Named(lambda budget, *_: Array(budget)),
    "numpy._core.multiarray._reconstruct": Named(lambda budget, *_: Array(budget)),
}


def read_pickle(path: Path, admitted: Mapping[str, Named]) -> Any:
    """What the file holds: plain values, lists, tuples, dictionaries, arrays, and what `admitted` makes of the rest."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(admitted, Budget(2 * len(content))).read(content)
    except PickleError:
        raise
    except _BROKEN as error:
        raise PickleError(f"is cut off or no pickle ({type(error).__name__}: {error})") from None


class _Reader:
    """The machine that a pickle is a program for. `marks` are the stacks below the one in use."""

    def __init__(self, admitted: Mapping[str, Named], budget: Budget) -> None:
        self._admitted = admitted
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def read(self, content: mmap.mmap) -> Any:
        steps = pickletools.genops(content)  # type: ignore[arg-type]  # it can be read and told, which is all they ask
        for step, (opcode, argument, _) in enumerate(steps):
            if step > STEPS:
                raise PickleError(f"has more than {STEPS} steps, which no data needs")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise PickleError("is cut off")

    def _step(self, name: str, argument: Any) -> None:
        if _PUSHED.fullmatch(name):
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name == "MARK":
            self._marks.append(self._stack)
            self._stack = []
        elif name.endswith("PUT") or name == "MEMOIZE":
            self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]
        elif name.endswith("GET"):
            self._stack.append(self._memo[argument])
        elif name not in ("PROTO", "FRAME"):
            self._combine(name, argument)

    def _combine(self, name: str, argument: Any) -> None:
        """The steps that make one thing of several."""
        match name:
            case "LIST" | "TUPLE" | "DICT":
                items = self._to_mark()
                self._stack.append(items if name == "LIST" else tuple(items) if name == "TUPLE" else _dictionary(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._popped(int(name[-1]))))
            case "APPEND" | "APPENDS":
                items = self._popped(1) if name == "APPEND" else self._to_mark()
                self._last(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._popped(2) if name == "SETITEM" else self._to_mark()
                self._last(dict).update(_dictionary(items))
            case "GLOBAL":
                self._stack.append(self._named(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                self._stack.append(self._named(".".join(self._popped(2))))
            case "REDUCE" | "NEWOBJ":
                arguments = self._popped(1)[0]
                named = self._last(Named)
                self._stack[-1] = named.make(self._budget, *arguments)
            case "BUILD":
                self._build(self._popped(1)[0])
            case _:
                raise RefusedError(f"uses {name}, which no data needs")

    def _build(self, state: Any) -> None:
        made = self._stack[-1]
        if isinstance(made, Array):
            made.state = state
        elif isinstance(made, _Kind):
            made.order = ">" if state[1] == ">" else "<"
        else:
            raise RefusedError(f"fills in what is no array but {type(made).__name__}")

    def _named(self, name: str) -> Named:
        if name not in self._admitted:
            raise RefusedError(f"asks for {name}")
        return self._admitted[name]

    def _last(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise PickleError(f"treats {type(self._stack[-1]).__name__} as {kind.__name__}")
        return self._stack[-1]

    def _popped(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise PickleError("takes more than it has put")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    names, values = items[::2], items[1::2]
    if not all(isinstance(name, _KEYS) for name in names):
        raise PickleError("has a key that is neither text nor a number")
    return dict(zip(names, values, strict=True))


def named_tuple(fields: Any) -> Named:
    """What makes plain dictionaries of a named tuple's values."""
    if len(fields) > FIELDS:
        raise PickleError(f"has a tuple of {len(fields)} names")
    return Named(lambda _budget, *values: dict(zip(fields, values, strict=True)))

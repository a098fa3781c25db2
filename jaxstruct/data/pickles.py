"""Pickles, of which nothing is run: a machine that calls what it is given and nothing else.

A pickle is a program for a stack machine that may call anything. The machine here knows the few
instructions that plain values take, and calls the functions that its caller has for the names in a
file. What a state dict of PyTorch needs of it is weights.py's.

What may be added: another instruction, if it cannot call what the file chooses.
"""

from __future__ import annotations

import io
import math
import pickletools
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxstruct.data.errors import DataError


class Refused(Exception):
    """What is wrong with a pickle, and what was expected.

    Values are written by `short`: a few bytes of the file can be values of any length.
    """


def short(value: Any) -> str:
    """A value as text, at most 80 characters, whatever it is."""
    return reprlib.repr(value)[:80]


def all_text(values: Iterable[Any]) -> bool:
    """Whether all values are strings."""
    return all(type(value) is str for value in values)


def read(content: bytes, path: Path, expected: str) -> Any:
    """The value of a pickle of numbers, texts, lists, dicts by name, and arrays of uint8.

    Raises DataError that names `path` and what was `expected` for what is no such pickle.
    """
    try:
        return interpret(io.BytesIO(content), _ARRAYS, "arrays of bytes alone", build=_build)
    except Refused as problem:
        raise DataError(
            f"{path}: {problem}; expected {expected}; is it the official file?"
        ) from None


_EMPTY, _BYTES, _CLASS = object(), object(), object()  # an array to be, its dtype, NumPy's class


def _dtype(kind: Any, *_: Any) -> object:
    if kind != "u1":
        raise Refused(f"an array of {short(kind)}, expected bytes")
    return _BYTES


def _build(known: Any, state: Any) -> Any:
    """What becomes of an array, and of its dtype, once their state is known."""
    if known is _BYTES:
        return known  # byte order and alignment say nothing of bytes
    if known is not _EMPTY:
        raise Refused(f"attributes of a {type(known).__name__}, expected none")
    _, shape, dtype, by_column, content = state
    if isinstance(content, str):  # of Python 2
        content = content.encode("latin-1")
    fits = type(shape) is tuple and len(shape) <= 32
    fits = fits and all(type(n) is int and 0 <= n < 2**48 for n in shape)
    if dtype is not _BYTES or type(content) is not bytes or not fits:
        raise Refused(f"an array of {short(content)} and shape {short(shape)}, expected bytes")
    if math.prod(shape) != len(content):
        raise Refused(f"an array of shape {short(shape)}, expected {len(content)} elements")
    flat = np.frombuffer(content, np.uint8)
    return flat.reshape(shape, order="F" if by_column is True else "C")


_ARRAYS: dict[str, Any] = {
    "numpy.core.multiarray _reconstruct": lambda *_: _EMPTY,
    "numpy._core.multiarray _reconstruct": lambda *_: _EMPTY,  # of NumPy 2
    "numpy ndarray": _CLASS,
    "numpy dtype": _dtype,
}


def interpret(
    stream: BinaryIO,
    names: Mapping[str, Any],
    expected: str,
    *,
    build: Callable[[Any, Any], Any],
    persistent: Callable[..., Any] | None = None,
    numbered: bool = False,
) -> Any:
    """The value of the next pickle in a stream, by the instructions of protocols 2 to 4.

    Args:
        stream: stands behind the pickle afterwards.
        names: what a name in the file, "module name", stands for; the functions among these values
            are all that can be called.
        expected: what the file should hold, to be told where it asks for another name.
        build: (value, state) -> value, for an object whose state follows it.
        persistent: what a persistent id stands for, called with its parts; None: there are none.
        numbered: whether there may be floating numbers, and small integers beside names in a
            dictionary, as in an optimiser's state.

    Raises:
        Refused: anything else is asked for, or the pickle is not whole.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop(size: int | None = None) -> list[Any]:
        """The last values of the stack: so many, or those above the last mark."""
        start = marks.pop() if size is None else len(stack) - size
        if start < 0:
            raise IndexError("stack is empty")
        values, stack[start:] = stack[start:], []
        return values

    def fill(known: Any, pairs: list[Any]) -> None:
        # Other keys could take forever to hash, or large integers have one hash.
        small = lambda key: numbered and type(key) is int and 0 <= key < 2**31
        if not isinstance(known, dict) or not all_text(k for k in pairs[::2] if not small(k)):
            raise Refused(f"items of a {type(known).__name__}, expected a dictionary's, by name")
        known.update(zip(pairs[::2], pairs[1::2], strict=True))

    def named(name: str) -> Any:
        if name not in names:
            raise Refused(f"it asks for {name.replace(' ', '.')!r:.80}, expected {expected}")
        return names[name]

    try:
        argument: Any
        for instruction, argument, _ in pickletools.genops(stream):
            match instruction.name:
                case "PROTO" | "FRAME":
                    pass
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(instruction.name == "NEWTRUE")
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "SHORT_BINUNICODE":
                    stack.append(argument)
                case "BINFLOAT" if numbered:
                    stack.append(argument)
                case "BINSTRING" | "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES":
                    stack.append(argument)  # Python 2's come as text, a character a byte
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE":
                    stack.append(tuple(pop()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(pop(int(instruction.name[-1]))))
                case "APPEND" | "APPENDS":
                    values = pop(1 if instruction.name == "APPEND" else None)
                    stack[-1] += values
                case "SETITEM" | "SETITEMS":
                    pairs = pop(2 if instruction.name == "SETITEM" else None)
                    fill(stack[-1], pairs)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(named(argument))
                case "STACK_GLOBAL":
                    stack.append(named(" ".join(pop(2))))
                case "BINPERSID" if persistent:
                    stack.append(persistent(*stack.pop()))
                case "REDUCE":
                    function, arguments = pop(2)
                    known = any(function is value for value in names.values())
                    if not known or not callable(function):
                        raise Refused(f"a call of {short(function)}, expected {expected}")
                    stack.append(function(*arguments))
                case "BUILD":
                    value, state = pop(2)
                    stack.append(build(value, state))
                case "STOP":
                    return stack.pop()
                case other:
                    raise Refused(f"instruction {other} {argument!r:.80}, expected {expected}")
    except Refused:
        raise
    except Exception as error:  # whatever the instructions lead to, in this order
        raise Refused(
            f"no whole pickle ({type(error).__name__}: {error!s:.80}), expected one"
        ) from None
    raise Refused("a pickle without an end, expected one")

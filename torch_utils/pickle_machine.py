"""Reading pickles as data: a small stack machine that never imports, calls or creates what a file
names.

The standard unpickler looks classes and functions up and calls them; even a restricted one hands
objects to the file that it can alter, and hashes whatever the file wants hashed. Here a file can
only stack up plain values; what its names and calls mean is decided by a `Vocabulary`.
"""

import io
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

MAX_OPCODES = 250_000  # a published snapshot has about 20,000
MAX_NAME = 256  # characters of a global's name
_MARK = object()
_UNPRINTABLE = re.compile(r"[^ -~]")
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}


class PickleRefused(ValueError):
    """A file asks for something that is not allowed; the message is one line."""


def shown(text: str, limit: int = 300) -> str:
    """Text from a file, harmless on a terminal: printable ASCII, at most `limit` characters."""
    line = " ".join(text[: limit + 1].split())
    line = _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], line)
    return line if len(line) <= limit else line[: limit - 3] + "..."


class Global(NamedTuple):
    """The name of a class or function in a pickle: nothing but a name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Vocabulary(Protocol):
    """What a kind of file may say. Each method raises PickleRefused for what is not allowed."""

    def global_(self, name: Global) -> Any:
        """The value that stands for a global, inert."""

    def call(self, function: Any, args: tuple) -> Any:
        """The result of calling the value of a global (REDUCE, NEWOBJ)."""

    def build(self, target: Any, state: Any) -> Any:
        """The object after receiving its state (BUILD)."""

    def persistent(self, key: Any) -> Any:
        """The value of a persistent id."""


def run(file: io.BytesIO, vocabulary: Vocabulary, max_opcodes: int = MAX_OPCODES) -> Any:
    """Reads one pickle from the file's position on and leaves the file behind it.

    Time and memory are bounded by the file's length and the number of instructions.

    Raises PickleRefused, and ValueError or other errors of the standard parser where the bytes are
    no pickle.
    """
    machine = _Machine(vocabulary)
    for _ in range(max_opcodes):
        opcode = _OPCODES.get(file.read(1))
        if opcode is None:
            raise PickleRefused("is damaged: ends early, or what follows is no pickle instruction")
        step = _STEPS.get(opcode.name)
        if step is None:  # Before its argument is looked at: some have parsers of their own.
            raise PickleRefused(f"uses the pickle instruction {opcode.name}, which no network does")
        argument = opcode.arg.reader(file) if opcode.arg else None
        try:
            step(machine, argument)
        except (IndexError, KeyError) as error:
            raise PickleRefused(f"is damaged: {opcode.name} finds nothing to work on") from error
        if opcode.name == "STOP":
            return machine.result
    raise PickleRefused(f"has more than {max_opcodes:,} pickle instructions")


@dataclass
class _Machine:
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleRefused("is damaged: a mark where a value must be")
        return value

    def top(self, kind: type | tuple[type, ...]) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise PickleRefused("is damaged: items are added to something that is no container")
        return self.stack[-1]

    def pop_items(self) -> list[Any]:
        start = len(self.stack) - 1
        while self.stack[start] is not _MARK:
            start -= 1
            if start < 0:
                raise PickleRefused("is damaged: items without a mark before them")
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def pop_tuple(self, count: int) -> tuple:
        items = [self.pop() for _ in range(count)]
        return tuple(reversed(items))

    def set_items(self, flat: list[Any]) -> None:
        target = self.top(dict)
        if len(flat) % 2:
            raise PickleRefused("is damaged: a key without a value")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            target[_key(key)] = value

    def add_items(self, items: list[Any]) -> None:
        self.top(set).update(map(_key, items))


def _key(value: Any) -> str | int:
    """Dictionary keys and members of sets: text and small numbers, which hash at once."""
    if type(value) is str or (type(value) is int and 0 <= value < 2**16):
        return value
    raise PickleRefused("has a dictionary key or a member of a set that is neither text nor index")


def _small(value: int) -> int:
    if value.bit_length() > 128:
        raise PickleRefused("has a whole number of more than 128 bits")
    return value


def _stack_global(machine: _Machine, _: Any) -> None:
    _global(machine, machine.pop_tuple(2))


def _named_global(machine: _Machine, argument: str) -> None:
    _global(machine, tuple(argument.split(" ", 1)))  # how pickletools joins the two lines


def _global(machine: _Machine, parts: tuple) -> None:
    if len(parts) != 2 or not all(type(part) is str and len(part) <= MAX_NAME for part in parts):
        raise PickleRefused("names a global in a way that no network does")
    machine.push(machine.vocabulary.global_(Global(*parts)))


def _call(machine: _Machine, _: Any) -> None:
    function, args = machine.pop_tuple(2)
    if type(args) is not tuple:
        raise PickleRefused("is damaged: a call without a tuple of arguments")
    machine.push(machine.vocabulary.call(function, args))


def _build(machine: _Machine, _: Any) -> None:
    target, state = machine.pop_tuple(2)
    machine.push(machine.vocabulary.build(target, state))


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(machine.pop_tuple(count))


def _push_argument(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


def _stop(machine: _Machine, _: Any) -> None:
    machine.result = machine.pop()


def _nothing(machine: _Machine, _: Any) -> None:
    """Instructions about the stream itself."""


# Every instruction of published snapshots, and what older and newer protocols write in their place.
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME"), _nothing),
    "STOP": _stop,
    **dict.fromkeys(
        ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES")
        + ("BINBYTES8", "BININT", "BININT1", "BININT2", "BINFLOAT"),
        _push_argument,
    ),
    "LONG1": lambda machine, value: machine.push(_small(value)),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": lambda machine, _: machine.push(_MARK),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_items())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": lambda machine, _: (value := machine.pop(), machine.top(list).append(value)),
    "APPENDS": lambda machine, _: (items := machine.pop_items(), machine.top(list).extend(items)),
    "SETITEM": lambda machine, _: (pair := machine.pop_tuple(2), machine.set_items([*pair])),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_items()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.pop_items()),
    "MEMOIZE": _memoize,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": _named_global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _build,
    "BINPERSID": lambda machine, _: machine.push(machine.vocabulary.persistent(machine.pop())),
}

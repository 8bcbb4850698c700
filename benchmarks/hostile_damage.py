"""Good files with something changed at random: bits, instructions, ends, halves."""

import pickletools
import random

from benchmarks.hostile_bases import Base, Instruction, bases, pickles

_CODES = [ord(opcode.code) for opcode in pickletools.opcodes]
_WITH_LENGTH = {"SHORT_BINUNICODE": 1, "BINUNICODE": 4, "BINUNICODE8": 8, "FRAME": 8}
_WITH_LENGTH |= {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "LONG1": 1}
_MEMO = {"BINGET": 1, "LONG_BINGET": 4, "BINPUT": 1, "LONG_BINPUT": 4}


def truncated(rng: random.Random) -> bytes:
    """The first bytes of a good file."""
    data = _any(rng).data
    short = rng.random() < 0.3
    return data[: rng.randrange(300 if short else len(data))]


def flipped(rng: random.Random) -> bytes:
    """One to eight bits, anywhere."""
    data = _any(rng).data
    return _flip(rng, data, [rng.randrange(len(data)) for _ in range(rng.randint(1, 8))])


def flipped_opcodes(rng: random.Random) -> bytes:
    """Bits of the bytes that say what an instruction does."""
    base = rng.choice(pickles())
    chosen = rng.choices(base.instructions, k=rng.randint(1, 4))
    return _flip(rng, base.data, [i.start for i in chosen])


def flipped_lengths(rng: random.Random) -> bytes:
    """Bits of lengths of texts, bytes, numbers and frames."""
    base = rng.choice(pickles())
    long = [i for i in base.instructions if i.name in _WITH_LENGTH]
    chosen = rng.choices(long, k=rng.randint(1, 3))
    at = [i.start + 1 + rng.randrange(_WITH_LENGTH[i.name]) for i in chosen]
    return _flip(rng, base.data, at)


def flipped_header(rng: random.Random) -> bytes:
    """Bits of the header of the plain format."""
    base = bases()["plain"]
    end = 9 if rng.random() < 0.2 else base.header
    return _flip(rng, base.data, [rng.randrange(end) for _ in range(rng.randint(1, 4))])


def flipped_storages(rng: random.Random) -> bytes:
    """Bits of the small pickles before the numbers of a tensor."""
    base = rng.choice([base for base in pickles() if base.storages])
    start = rng.choice(base.storages)
    at = [start + rng.randrange(min(260, len(base.data) - start)) for _ in range(rng.randint(1, 4))]
    return _flip(rng, base.data, at)


def edited(rng: random.Random) -> bytes:
    """Instructions swapped, repeated, left out or replaced."""
    base = rng.choice(pickles())
    for _ in range(rng.randint(1, 3)):
        if len(base.instructions) < 20:
            break
        first, second = sorted(rng.sample(range(1, len(base.instructions)), 2))
        span = min(second, first + rng.choice((1, 1, 2, 10, 1000)))
        a, b = _bytes(base, first, span), _bytes(base, second, second + 1)
        between = _bytes(base, span, second)
        middle = rng.choice(
            (
                b + between + a,
                a + a + between + b,
                between + b,
                a * rng.randint(2, 200) + between + b,
                bytes([rng.choice(_CODES)]) + a[1:] + between + b,
            )
        )
        head, tail = _bytes(base, 0, first), base.data[base.instructions[second].end :]
        data = head + middle + tail
        base = Base(base.name, data, _before(base, len(head)))
    return base.data


def memo(rng: random.Random) -> bytes:
    """Wrong references: what is looked up is something else, or nothing."""
    base = rng.choice(pickles())
    data = bytearray(base.data)
    places = [i for i in base.instructions if i.name in _MEMO]
    for old in rng.choices(places, k=rng.choice((1, 2, 5, 50))):
        other = rng.choice(places)
        size = _MEMO[old.name]
        limit = 256 if size == 1 else rng.choice((2000, 2**16, 2**32))
        index = rng.randrange(limit).to_bytes(size, "little")
        if _MEMO[other.name] == size:
            index = base.data[other.start + 1 : other.end]
        data[old.start + 1 : old.end] = index
    return bytes(data)


def spliced(rng: random.Random) -> bytes:
    """The head of one file and the tail of another, cut at instructions or anywhere."""
    first, second = _any(rng), _any(rng)
    return first.data[: _cut(rng, first)] + second.data[_cut(rng, second) :]


def _cut(rng: random.Random, base: Base) -> int:
    if base.instructions and rng.random() < 0.7:
        return rng.choice(base.instructions).start
    return rng.randrange(len(base.data))


def _any(rng: random.Random) -> Base:
    return rng.choice(list(bases().values()))


def _flip(rng: random.Random, data: bytes, places: list[int]) -> bytes:
    changed = bytearray(data)
    for at in places:
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _bytes(base: Base, first: int, last: int) -> bytes:
    """Those of instructions `first` to before `last`."""
    if first >= last:
        return b""
    return base.data[base.instructions[first].start : base.instructions[last - 1].end]


def _before(base: Base, end: int) -> tuple[Instruction, ...]:
    """The instructions that an edit after `end` bytes has left where they were."""
    return tuple(i for i in base.instructions if i.end <= end)

"""Seeded damage for fuzzing readers: of bytes, and of one field of a record.

    for name, data in damaged_bytes(path.read_bytes(), count=200):
        path.write_bytes(data)
        value, message = right_or_refused(lambda: read(path))

Equal arguments give equal damage, so the name (`flip 3 bits at 17...`) and the number find a case again.
"""

import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

# Integers at the edges of the types that files use, and far beyond all of them.
HUGE_INTEGERS = (-1, 0, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30)

# Names that must lead nowhere, and names that no file system takes.
ODD_NAMES = (
    "", ".", "..", "/", "../outside.jpg", "a/../../outside.jpg", "/etc/passwd", "..\\outside.jpg", "C:\\outside.jpg",
    "a\0b.jpg", "a\nb.jpg", "n" * 300 + ".jpg", "n" * 5000, "\udc80.jpg", "CON", "~", "-rf", "%2e%2e%2foutside.jpg",
)  # fmt: skip

ODD_TEXTS = ("", " ", "\0", "\ud800", "a\udfffb", "\u202e", "\u2028", "\U0010ffff", "\x85", "1e999", "x" * 100_000)

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, *HUGE_INTEGERS, 0.5, -0.0, float("nan"), float("inf"), *ODD_TEXTS, [], [[]], [None], {},
    {"a": 1}, {"": None}, [[[[[[[[]]]]]]]],
)  # fmt: skip


class Damaged(NamedTuple):
    """One case: what was done, and the outcome."""

    name: str
    value: Any


def damaged_bytes(data: bytes, *, seed: int = 0, count: int = 100) -> Iterator[Damaged]:
    """`count` damaged copies of a file: empty and cut first, then bits, bytes and blocks at random."""
    chance = random.Random(seed)
    yield from (Damaged("empty", b""), Damaged("cut in half", data[: len(data) // 2]))[:count]
    ways = (_flip, _truncate, _splice, _repeat, _remove, _insert, _blank, _huge_integer)
    for number in range(2, count):
        name, value = ways[number % len(ways)](bytearray(data or b"\0"), chance)
        yield Damaged(name, bytes(value))


def damaged_records(value: Any, *, seed: int = 0, count: int = 100) -> Iterator[Damaged]:
    """`count` copies of nested mappings and lists, each with one place changed.

    A field is replaced by a value of another type or size, by a name that leads out of the folder, dropped, or put
    in twice; an unknown field is added. The name says where: `annotations[3].image_id = None`.
    """
    chance = random.Random(seed)
    places = list(_places(value))
    for _ in range(count):
        result = copy.deepcopy(value)
        path = chance.choice(places)
        if not path:
            odd = chance.choice(ODD_VALUES)
            yield Damaged(f"all = {_short(odd)}", odd)
            continue
        *above, last = path
        owner = result
        for key in above:
            owner = owner[key]
        yield Damaged(f"{_dotted(path)}{_change(owner, last, chance)}", result)


def as_json(value: Any) -> bytes:
    """The record as a JSON file: lone surrogates escaped, NaN and Infinity as Python's json writes them."""
    return json.dumps(value).encode("ascii")


def flip(data: bytes, place: int, bit: int = 0) -> bytes:
    """`data` with one bit of the byte at `place` (from the end where negative) turned over."""
    damaged = bytearray(data)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def _flip(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    places = [chance.randrange(len(data)) for _ in range(chance.choice((1, 1, 1, 3, 20)))]
    for place in places:
        data[place] ^= 1 << chance.randrange(8)
    return f"flip {len(places)} bits at {places[0]}...", data


def _truncate(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    # Near the beginning and the end more often than between: there the headers and the tables lie.
    end = chance.choice((chance.randrange(len(data)), chance.randrange(min(len(data), 64)), len(data) - 1))
    return f"end at {end}", data[:end]


def _span(data: bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data))
    return start, min(len(data), start + chance.choice((1, 4, 8, 64, 1024)))


def _splice(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    start, end = _span(data, chance)
    place = chance.randrange(len(data))
    data[place : place + end - start] = data[start:end]
    return f"{start}:{end} over {place}", data


def _repeat(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    start, end = _span(data, chance)
    return f"{start}:{end} twice", data[:end] + data[start:]


def _remove(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    start, end = _span(data, chance)
    return f"{start}:{end} removed", data[:start] + data[end:]


def _insert(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    place, more = chance.randrange(len(data) + 1), chance.randbytes(chance.choice((1, 8, 512)))
    return f"{len(more)} bytes put in at {place}", data[:place] + more + data[place:]


def _blank(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    start, end = _span(data, chance)
    byte = chance.choice((0, 255))
    data[start:end] = bytes([byte]) * (end - start)
    return f"{start}:{end} all {byte}", data


def _huge_integer(data: bytearray, chance: random.Random) -> tuple[str, bytearray]:
    form, value = chance.choice(
        (("<i", -1), ("<i", 2**31 - 1), ("<q", 2**62), ("<q", -1), (">q", 2**62), ("<Q", 2**40))
    )
    packed = struct.pack(form, value)
    place = chance.randrange(max(1, len(data) - len(packed)))
    data[place : place + len(packed)] = packed
    return f"{value} as {form} at {place}", data


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list):
        for number, element in enumerate(value):
            yield from _places(element, (*path, number))


def _change(owner: Any, last: Any, chance: random.Random) -> str:
    """Change one field of its owner; returns what was done, in words."""
    way = chance.randrange(10)
    if way == 0:
        del owner[last]
        return " dropped"
    if way == 1 and isinstance(owner, list):
        owner.append(copy.deepcopy(owner[last]))
        return " twice"
    if way == 1:
        owner[chance.choice(("extra", "", "\ud800", "x" * 5000))] = owner[last]
        return " under another name, too"
    odd: Any
    if way in (2, 3) and isinstance(owner[last], str):
        odd = chance.choice(ODD_NAMES)
    elif way in (2, 3) and isinstance(owner[last], int):
        odd = chance.choice((*HUGE_INTEGERS, str(owner[last]), float(owner[last]) + 0.5))
    else:
        odd = chance.choice(ODD_VALUES)
    owner[last] = copy.deepcopy(odd)
    return f" = {_short(odd)}"


def _dotted(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def _short(value: Any) -> str:
    said = ascii(value)
    return said if len(said) <= 40 else f"{said[:30]}... ({len(said)} characters)"

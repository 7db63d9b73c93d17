"""Ways to break a file: blind ones, on its bytes, and knowing ones, which leave its checksums right."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]

HUGE = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
BOMB = 64 << 20
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.5, 2, 1e308, float("inf"), float("nan"), 10**30, 10**400, 2**63),
    *("", "x", "\0", "\ud800", "DR001", "DR999", "pass", "nothing measured", "*", "1%", "\x1b[31m", "x" * 10_000),
    *([], {}, [1], [0, 0], [-1], [10**9], ["x"], [[]], {"a": 1}, {"id": "x"}, [None], [0.5, "x"]),
)


def cut(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Leave off the end, or the beginning."""
    del others
    at = rng.randrange(len(content) + 1)
    return content[:at] if rng.random() < 0.8 else content[at:]


def flip(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Flip one to eight bits."""
    del others
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def noise(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Put random bytes over, in, or in the place of a piece."""
    del others
    at, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 64, 512))
    put = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length))
    return content[:at] + put + content[at + rng.choice((0, 1, length)) :]


def splice(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Put a piece of another file, or of this one, in."""
    source = rng.choice([*others, content])
    start = rng.randrange(len(source))
    piece = source[start : start + rng.choice((16, 256, 4096, len(source)))]
    at = rng.randrange(len(content))
    return content[:at] + piece + content[at + rng.choice((0, len(piece))) :]


def number(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Write a number of note over two, four or eight bytes: sizes, offsets and counts become huge."""
    del others
    form, top = rng.choice((("<H", 1 << 16), ("<I", 1 << 32), ("<Q", 1 << 64), (">I", 1 << 32)))
    packed = struct.pack(form, rng.choice([value for value in HUGE if value < top]))
    # The ends of a file hold its headers and its directory.
    near = rng.choice((min(256, len(content)), len(content)))
    at = rng.randrange(near) if rng.random() < 0.5 else len(content) - 1 - rng.randrange(near)
    return content[:at] + packed + content[at + len(packed) :]


def digits(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Make a number that is written out larger, smaller or negative: JSON and NumPy headers hold such."""
    places = [at for at, sign in enumerate(content[: 1 << 16]) if 0x30 <= sign <= 0x39]
    if not places:
        return flip(content, rng, others)
    at = rng.choice(places)
    return content[:at] + rng.choice((b"9", b"-1", b"99999999", b"1e9", b"0", b"9" * 30)) + content[at + 1 :]


def swap_members(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Exchange what two members hold, with right checksums."""
    members = _members(content)
    if len(members) < 2:
        return splice(content, rng, others)
    one, two = rng.sample(range(len(members)), 2)
    (name, held), (other, also) = members[one], members[two]
    members[one], members[two] = (name, also), (other, held)
    return _zip(members)


def change_member(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Break one member blindly, with a right checksum: past the checksums stand the readers of pickles and JSON."""
    members = _members(content)
    if not members:
        return flip(content, rng, others)
    pickles = [place for place, (name, held) in enumerate(members) if name.endswith((".pkl", ".json", ".py")) and held]
    place = rng.choice(pickles) if pickles and rng.random() < 0.8 else rng.randrange(len(members))
    name, held = members[place]
    changed = rng.choice((flip, flip, cut, noise, number, digits, splice))(held or b"\0", rng, others)
    members[place] = (name, changed)
    return _zip(members)


def repeat_member(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Hold one name twice, the second time with something else in it."""
    members = _members(content)
    if not members:
        return splice(content, rng, others)
    name, held = rng.choice(members)
    members.insert(rng.randrange(len(members) + 1), (name, flip(held or b"\0", rng, others)))
    return _zip(members)


def drop_member(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Leave a member out, or give it another name."""
    members = _members(content)
    if not members:
        return cut(content, rng, others)
    name, held = members.pop(rng.randrange(len(members)))
    if rng.random() < 0.5:
        known = [other for other, _ in members]
        root = name.partition("/")[0]
        renamed = rng.choice((f"{root}/data.pkl", f"../{name}", "/etc/x", f"{name}\0x", name.upper(), f"{root}/x"))
        members.append((renamed if renamed not in known else f"{name}.x", held))
    return _zip(members)


def bomb(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Pack one member so that a few bytes claim many: zeros, or more of what it holds."""
    del others
    members = _members(content) or [("model/data.pkl", content[:64])]
    place = rng.randrange(len(members))
    name, held = members[place]
    filling = rng.choice((b"\0", b"(", b"]", b"}", b"[[],", held[:64] or b"\0"))
    repeats = BOMB // len(filling) if rng.random() < 0.05 else (1 << 20) // len(filling)
    members[place] = (name, held + filling * repeats)
    return _zip(members, zipfile.ZIP_DEFLATED)


def change_value(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Put another value in the place of one in a JSON document."""
    del others
    document = json.loads(content)
    holder, key = rng.choice(_places(document))
    holder[key] = rng.choice(STRANGE)
    return json.dumps(document).encode()


def nudge_value(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change a number, a text or a truth value in a JSON document a little: of the same type, but another."""
    del others
    document = json.loads(content)
    holder, key = rng.choice([(h, k) for h, k in _places(document) if isinstance(h[k], (int, float, str))])
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, str):
        holder[key] = rng.choice((value[1:], value + "x", value.upper(), "", value + "\0", value[::-1], "\ud800"))
    else:
        holder[key] = rng.choice((value + 1, value - 1, -value, value * 2, value * 1e9, value / 3, 10**15, 2**63))
    return json.dumps(document).encode()


def drop_value(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Leave out a member or an item of a JSON document."""
    del others
    document = json.loads(content)
    holder, key = rng.choice(_places(document))
    del holder[key]
    return json.dumps(document).encode()


def repeat_value(content: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Hold an item of an array twice, or put one member's value in the place of another's."""
    del others
    document = json.loads(content)
    holder, key = rng.choice(_places(document))
    if isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    else:
        holder[key] = holder[rng.choice(list(holder))]
    return json.dumps(document).encode()


BLIND: tuple[Mutation, ...] = (cut, flip, flip, noise, splice, number, digits)
"""They know nothing of the format, so whatever checksum it has is wrong afterwards, or what it covers is the same."""

KNOWING: tuple[Mutation, ...] = (swap_members, change_member, change_member, repeat_member, drop_member, bomb)
"""They write a right zip, so the weights in it may differ."""


KNOWING_JSON: tuple[Mutation, ...] = (change_value, nudge_value, nudge_value, drop_value, repeat_value)
"""They write right JSON that says something else."""


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every member and item of a JSON document, as what holds it and its key there."""
    found, waiting = [], [document]
    while waiting:
        holder = waiting.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            found.append((holder, key))
            if isinstance(value, (dict, list)) and value:
                waiting.append(value)
    return found


def _members(content: bytes) -> list[tuple[str, bytes]]:
    """Names and contents of a zip; none if it is no zip."""
    if not content.startswith(b"PK"):
        return []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _zip(members: Sequence[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members, in this order, with right checksums."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression, compresslevel=1) as archive:
        warnings.simplefilter("ignore")  # of repeated names
        for name, held in members:
            archive.writestr(zipfile.ZipInfo(name), held, compression)
    return file.getvalue()

"""Values that break programs, drawn from a `random.Random`."""

import math
import random
import string
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

TEXTS = (
    *(
        "",
        " ",
        "\t",
        "\n",
        "a\nb",
        "\r",
        "\0",
        "a\0b",
        "\x1b[31mred\x1b[0m",
        "\x7f",
        "\x85",
        "\ud800",
        "a\udfffb",
        "\ufeff",
    ),
    *(
        "../",
        "../../etc/passwd",
        "~nobody-here/x",
        "/etc/passwd",
        "..",
        ".",
        "/",
        "a/b",
        "a\\b",
        "%2e%2e%2f",
        "%",
        "%s",
        "%(x)s",
        "%00",
    ),
    *(
        "{x}",
        "{0}",
        "{}",
        "{x.__class__}",
        "${HOME}",
        "$(id)",
        "`id`",
        "; id",
        "| id",
        "-h",
        "--help",
        "--",
        "-",
        "@file",
    ),
    *(
        "'; DROP TABLE studies; --",
        "' OR '1'='1",
        '"; DELETE FROM trials; --',
        "\\'",
        "''",
        ":name",
        ":study",
        "?",
        "%%",
    ),
    *("<script>alert(1)</script>", "&lt;", "[bold]x[/bold]", "[/]", "[link=file:///etc/passwd]x[/link]"),
    *(
        "é",
        "e\u0301",
        "\u202etxt.exe",
        "\u200b",
        "\u2028",
        "שלום",
        "مرحبا",
        "日本語",
        "😀",
        "👩‍👩‍👧",
        "İ",
        "ß",
        "ﬁ",
        "\U0010ffff",
        "\uffff",
    ),
    *(
        "nan",
        "inf",
        "-inf",
        "NaN",
        "Infinity",
        "null",
        "None",
        "true",
        "True",
        "0",
        "-0",
        "-0.0",
        "1e309",
        "1e-320",
        "1_000",
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-1",
        "0x10",
        "٣",
        "１２",
        "1" * 5000,
        "[" * 3000,
        "{" * 500,
        "=" * 99,
    ),
    *(
        "os:system",
        "builtins:eval",
        "nas.cli:main",
        "nas.studies:delete_study",
        "a:b",
        ":",
        "a:",
        ":b",
        "__main__:x",
        "a.b:c.d",
    ),
    *("error", "mlp", "iris", "training", "x", "kind", "name", "demo", "a" * 200, "a" * 201, "x" * 10_000, "é" * 200),
)

INTEGERS = (
    *(0, 1, -1, 2, 7, 10, 255, 2**15, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**53 + 1, -(2**53) - 1),
    *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**19, 10**30, 10**400, -(10**400)),
)

FLOATS = (
    *(0.0, -0.0, 0.1, 0.5, 1.0, -1.0, 1e-320, 5e-324, -5e-324, 2.2250738585072014e-308, 1e-17, 1e15, 1e17, 1e300),
    *(1.7976931348623157e308, float(2**53), float(2**63), math.nan, math.inf, -math.inf, math.pi, 1 - 2**-53),
)


def text(rng: random.Random) -> str:
    """Some text: a known troublemaker, noise, or two of them joined."""
    kind = rng.random()
    if kind < 0.7:
        return rng.choice(TEXTS)
    if kind < 0.85:
        return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) for _ in range(rng.randrange(12)))
    if kind < 0.95:
        return rng.choice(TEXTS) + rng.choice(TEXTS)
    return "".join(rng.choices(string.ascii_letters, k=rng.choice((1, 3, 190, 199, 200, 201))))


def number(rng: random.Random) -> Any:
    """A whole or real number."""
    if rng.random() < 0.2:
        return rng.uniform(-2.0, 2.0)
    return rng.choice(INTEGERS) if rng.random() < 0.5 else rng.choice(FLOATS)


def scalar(rng: random.Random) -> Any:
    """A JSON scalar, or a float that JSON has no word for."""
    kind = rng.random()
    if kind < 0.4:
        return number(rng)
    return text(rng) if kind < 0.8 else rng.choice((None, True, False))


def plain(rng: random.Random, depth: int = 3) -> Any:
    """A JSON value."""
    kind = rng.random()
    if depth <= 0 or kind < 0.6:
        return scalar(rng)
    if kind < 0.8:
        return [plain(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {text(rng): plain(rng, depth - 1) for _ in range(rng.randrange(4))}


def deep(rng: random.Random, opening: Any = None) -> Any:
    """A value that is nested deeply."""
    value: Any = opening
    as_list = rng.random() < 0.5
    for _ in range(rng.choice((50, 200, 1000, 3000))):
        value = [value] if as_list else {"a": value}
    return value


def foreign(rng: random.Random) -> Any:
    """What is no JSON: numbers of other libraries, objects, containers of them."""
    value = rng.choice((0.0, 1.5, math.nan, math.inf, 3.0))
    makers = (
        lambda: np.float32(value),
        lambda: np.float64(value),
        lambda: np.int64(3),
        lambda: np.uint64(2**64 - 1),
        lambda: np.bool_(True),
        lambda: np.array(value),
        lambda: np.array([1.0, 2.0]),
        lambda: np.array(["a"], dtype=object),
        lambda: np.datetime64("2020-01-01"),
        lambda: np.complex128(1j),
        lambda: torch.tensor(value),
        lambda: torch.tensor([1.0, 2.0]),
        lambda: torch.tensor(True),
        lambda: torch.tensor(3),
        lambda: torch.empty((), device="meta"),
        lambda: 1 + 2j,
        lambda: b"bytes",
        lambda: object(),
        lambda: {1, 2},
        lambda: (1, 2),
        lambda: range(3),
        lambda: len,
        lambda: int,
        lambda: Unprintable(),
        lambda: memoryview(b"x"),
    )
    return rng.choice(makers)()


def anything(rng: random.Random) -> Any:
    """Any of these."""
    kind = rng.random()
    if kind < 0.5:
        return scalar(rng)
    return plain(rng) if kind < 0.7 else foreign(rng) if kind < 0.95 else deep(rng)


class Unprintable:
    """A user's object whose `repr` is broken."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def mutated(rng: random.Random, document: Any, value: Any = None) -> Any:
    """A copy of a document with a few places changed: replaced, removed, renamed, doubled."""
    changed = _copy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            return (value or plain)(rng)
        container, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.6:
            container[key] = (value or plain)(rng)
        elif kind < 0.75:
            del container[key]
        elif isinstance(container, dict):
            container[text(rng)] = container.pop(key) if kind < 0.9 else _copy(container[key])
        else:
            container.insert(key, _copy(container[key]))
    return changed


def _copy(value: Any, depth: int = 60) -> Any:
    if depth and isinstance(value, Mapping):
        return {key: _copy(inner, depth - 1) for key, inner in value.items()}
    return [_copy(inner, depth - 1) for inner in value] if depth and isinstance(value, list | tuple) else value


def _places(value: Any, depth: int = 60) -> Iterator[tuple[Any, Any]]:
    if depth and isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _places(inner, depth - 1)


def spoiled(rng: random.Random, good: bytes) -> bytes:
    """Bytes with a few of them flipped, cut, doubled or replaced."""
    content = bytearray(good)
    for _ in range(rng.choice((1, 2, 5))):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at:at] = text(rng).encode("utf-8", "surrogatepass")
        elif kind == 2:
            del content[at : at + rng.randrange(1, 20)]
        elif kind == 3:
            content[at:at] = content[max(0, at - rng.randrange(1, 40)) : at]
        else:
            del content[at:]
    return bytes(content)

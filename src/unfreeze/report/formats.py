"""How the report writes numbers: few digits, a unit, and a dash for what was not measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

MISSING = "—"
THIN = "\u202f"  # a narrow space that never breaks, between a number and its unit


def percent(share: float | None, digits: int = 1) -> str:
    """``0.8049`` → ``80.5 %``."""
    return MISSING if share is None else f"{100 * share:.{digits}f}{THIN}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """``0.41512`` → ``0.415``."""
    return MISSING if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """``22714755`` → ``22 714 755``, in groups of three."""
    return MISSING if value is None else f"{value:,.0f}".replace(",", THIN)


def short(value: float | None) -> str:
    """``22714755`` → ``22.7 M``: three digits and the prefix of a thousand, a million and so on."""
    return MISSING if value is None else _scaled(value, 1000, ("", "k", "M", "G", "T", "P", "E"))


def size(value: float | None) -> str:
    """``300000000`` → ``286 MiB``."""
    return MISSING if value is None else _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def joules(value: float | None) -> str:
    """``5400`` → ``5.40 kJ``."""
    return MISSING if value is None else _scaled(value, 1000, ("J", "kJ", "MJ", "GJ"))


def seconds(value: float | None) -> str:
    """``0.5`` → ``0.5 s``, ``75`` → ``1 min 15 s``, ``7500`` → ``2 h 5 min``."""
    if value is None:
        return MISSING
    if value < 60:
        return f"{value:.3g}{THIN}s"
    minutes, rest = divmod(round(value), 60)
    parts = ((minutes, "min"), (rest, "s")) if minutes < 60 else ((minutes // 60, "h"), (minutes % 60, "min"))
    return " ".join(f"{number}{THIN}{unit}" for number, unit in parts if number)


def anything(value: Any) -> str:
    """A value of the study's own files, whose kind is not known beforehand."""
    if value is None:
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return count(value) if isinstance(value, int) else f"{value:.4g}"


def told(choice: Mapping[str, Any]) -> str:
    """``{"learning_rate": 1e-3, "rank": 8}`` → ``learning rate 0.001, rank 8``."""
    written = {key: f"{value:g}" if isinstance(value, float) else anything(value) for key, value in choice.items()}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in written.items())


def markdown(text: object) -> str:
    """Text that a Markdown reader shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", str(text))


def _scaled(value: float, base: int, prefixes: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power < len(prefixes) - 1:
        value, power = value / base, power + 1
    digits = 0 if power == 0 and value == int(value) else max(0, 2 - len(str(int(abs(value)))) + 1)
    return f"{value:.{digits}f}{THIN}{prefixes[power]}".rstrip(THIN)


FILTERS: dict[str, Callable[..., str]] = {
    function.__name__: function for function in (percent, decimal, count, short, size, seconds, anything, markdown)
}

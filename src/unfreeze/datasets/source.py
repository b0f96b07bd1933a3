"""What every reader returns: usable rows of each split the source has, before they are split and numbered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import pyarrow as pa
import pyarrow.compute as pc

from unfreeze.datasets.readers import Rows
from unfreeze.errors import DataError, nearest
from unfreeze.records import DROPPED

# A row as it was read: text, the name of its label, and where it stood. `guid` is null where the source has no ids,
# `hypothesis` in a single-text task, `group` where the premise stands for it. `votes` are the labels that annotators
# gave, separated by spaces; null where the source does not say.
RAW = pa.schema(
    [
        ("guid", pa.string()),
        ("premise", pa.string()),
        ("hypothesis", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("votes", pa.string()),
    ]
)


@dataclass(frozen=True)
class Source:
    """One dataset as its reader found it.

    Attributes:
        name: what tables call it.
        splits: ``train`` and, where the source has them, ``validation`` and ``test``; schema :data:`RAW`.
        labels: order of the class names; None sorts those of the training split.
        dropped: rows that could not be used, schema :data:`~unfreeze.records.DROPPED`.
        notes: sentences every table must repeat.
    """

    name: str
    splits: Mapping[str, pa.Table]
    labels: tuple[str, ...] | None = None
    dropped: pa.Table = field(default_factory=DROPPED.empty_table)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which column of a file holds what; ``no_label`` is how the source writes that there is no gold label."""

    premise: str
    hypothesis: str | None = None
    label: str
    group: str | None = None
    guid: str | None = None
    votes: str | None = None
    no_label: str | None = None

    def columns(self) -> dict[str, str]:
        """Field of :data:`RAW` → column of the file."""
        roles = [role.name for role in fields(self) if role.name != "no_label"]
        return {role: getattr(self, role) for role in roles if getattr(self, role) is not None}


def raw_table(
    name: str, rows: Rows, chosen: Chosen, labels: tuple[str, ...] | None = None
) -> tuple[pa.Table, pa.Table]:
    """Keep the chosen columns of a file and take out rows without a text or a label, or with one not in ``labels``.

    Returns:
        The usable rows (:data:`RAW`, labels trimmed) and the others (:data:`~unfreeze.records.DROPPED`), those
        that could not even be read included.

    Raises:
        DataError: a chosen column is not there.
    """
    columns = chosen.columns()
    for role, column in columns.items():
        if column not in rows.table.column_names and role not in ("guid", "votes"):
            raise DataError(f"{name}: {no_column(role, column, rows.table.column_names)}")
    size = len(rows.table)
    values = {role: rows.table[column] for role, column in columns.items() if column in rows.table.column_names}
    values |= {"source": pa.repeat(name, size), "row": pa.array(rows.number, pa.int64())}
    label = pc.utf8_trim_whitespace(values["label"])
    values["label"] = pc.if_else(pc.is_in(label, pa.array(["", chosen.no_label])), None, label)
    raw = pa.table([values.get(role, pa.nulls(size, RAW.field(role).type)) for role in RAW.names], schema=RAW)
    usable, unusable = take_out(raw, _faults(raw, is_pair=chosen.hypothesis is not None, labels=labels))
    unread = [[name] * len(rows.faults), [row for row, _ in rows.faults], [reason for _, reason in rows.faults]]
    return usable, pa.concat_tables([pa.table(unread, schema=DROPPED), unusable])


def no_column(role: str, column: str, there: Sequence[str]) -> str:
    """Say that a column is missing, which one is meant perhaps, and which there are."""
    hint = nearest(column, there)
    known = "" if hint.startswith("; known") else f"; known: {', '.join(there)}"
    return f"no column '{column}' for the {role}{hint}{known}"


def take_out(raw: pa.Table, reason: pa.ChunkedArray) -> tuple[pa.Table, pa.Table]:
    """Split rows into those without a ``reason`` (null) and, as a DROPPED table, those with one."""
    usable = pc.is_null(reason)
    out = raw.select(["source", "row"]).append_column("reason", reason).filter(pc.invert(usable))
    return raw.filter(usable), out.cast(DROPPED)


def _faults(raw: pa.Table, *, is_pair: bool, labels: Sequence[str] | None) -> pa.ChunkedArray:
    """Why each row cannot be used, null where it can."""
    faults = {
        "no label": pc.is_null(raw["label"]),
        "empty premise" if is_pair else "empty text": _is_blank(raw["premise"]),
        "empty hypothesis": pc.and_(pa.scalar(is_pair), _is_blank(raw["hypothesis"])),
    }
    reason = pc.case_when(pc.make_struct(*faults.values()), *faults)
    if labels is None:
        return reason
    unknown = pc.invert(pc.is_in(raw["label"], pa.array(labels)))
    said = pc.binary_join_element_wise("label '", raw["label"], f"' is none of {', '.join(labels)}", "")
    return pc.coalesce(reason, pc.if_else(unknown, said, None))


def _is_blank(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), True)

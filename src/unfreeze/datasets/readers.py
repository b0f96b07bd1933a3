"""Rows of one file, whatever its format: a table of strings, and the rows that could not be read, with a reason."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from unfreeze.errors import DataError

# A tab-separated cell that begins with a quotation mark and is not wholly quoted.
BARE_QUOTE = re.compile(rb'(?:^|\t)"(?!(?:[^"]|"")*"(?:\t|\r?$))', re.MULTILINE)
OPEN_QUOTE = "a quote is left open"
NOT_UTF8 = "not UTF-8 text"
EXACT = 2.0**53  # below, a floating-point number that is whole is an integer without loss


@dataclass(frozen=True)
class Rows:
    """The readable rows of one file.

    Attributes:
        table: string columns, null where a value is missing.
        number: int64 of shape (rows,), each row's place in the file as an editor counts it, from 1; the header of a
            CSV is row 1.
        faults: place and reason of each row that could not be read.
    """

    table: pa.Table
    number: np.ndarray
    faults: list[tuple[int, str]]


def read_path(path: Path) -> Rows:
    """Read a file of the user's.

    Raises:
        DataError: it is missing, a folder, or cannot be read as what its ending says.
    """
    if path.is_dir():
        raise DataError(f"{path.absolute()}: is a folder; name a file, or one for each split as in path: {{train: …}}")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path.absolute()}: no such file; mend data.path") from None
    except OSError as error:
        raise DataError(f"{path.absolute()}: cannot be read ({error.strerror})") from None
    return read_content(str(path), content)


def read_content(name: str, content: bytes, columns: Sequence[str] | None = None, lists: Collection[str] = ()) -> Rows:
    """Read a file's content by the ending of its name; ``.gz`` is unpacked first.

    Args:
        name: what messages call the file; its ending says the format.
        content: the whole file.
        columns: the only ones of a JSONL file to keep; None keeps all.
        lists: columns of a JSONL file that hold lists of words, which become one text with spaces between them.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    plain = name.removesuffix(".gz")
    if plain != name:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise DataError(f"{name}: not a whole gzip file ({error}); download or pack it again") from None
    ending = Path(plain).suffix.lower()
    if ending not in ENDINGS:
        raise DataError(f"{name}: unknown ending '{ending}'; examples stand in {', '.join(ENDINGS)} (or .gz after it)")
    if not content.strip():
        raise DataError(f"{name}: the file is empty")
    if ending == ".parquet":
        return _read_parquet(name, content)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{name}: is UTF-16 text; save it as UTF-8")
    content, damaged = _utf8(content)
    if ending == ".jsonl":
        rows = _read_jsonl(name, content, columns, lists)
    elif ending == ".csv":
        rows = _read_delimited(name, content, ",", quoted=True)
    elif ending == ".tsv":
        # Spreadsheets quote tab-separated cells, corpora do not.
        rows = _read_delimited(name, content, "\t", quoted=not BARE_QUOTE.search(content))
    else:
        rows = _read_delimited(name, content, "\t", quoted=False)
    return _without_damaged(rows) if damaged else rows


# `.txt` is SNLI's own tab-separated format.
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")


def _utf8(content: bytes) -> tuple[bytes, bool]:
    """The content without a byte order mark, bad bytes replaced by U+FFFD, and whether there were any."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode(errors="replace").encode(), True
    return content, False


def _without_damaged(rows: Rows) -> Rows:
    """Turn rows that hold U+FFFD, which stands for bad bytes, into faults."""
    damaged = np.zeros(len(rows.table), bool)
    for column in rows.table.columns:
        damaged |= pc.fill_null(pc.match_substring(column, "\ufffd"), False).to_numpy()
    faults = [*rows.faults, *((int(number), NOT_UTF8) for number in rows.number[damaged])]
    return Rows(rows.table.filter(pa.array(~damaged)), rows.number[~damaged], sorted(faults))


def _read_delimited(name: str, content: bytes, delimiter: str, *, quoted: bool) -> Rows:
    faults = []

    def skip(row: Any) -> str:
        lines = row.text.count("\n") + 1
        over = f" over {lines} lines: {OPEN_QUOTE}" if lines > 1 else ""
        faults.append((row.number, f"{row.actual_columns} columns instead of {row.expected_columns}{over}"))
        return "skip"

    parse = pyarrow.csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
        ignore_empty_lines=False,  # or row numbers would not be an editor's
        invalid_row_handler=skip,
    )
    # Every column is text, so that "007" and "NA" stay what they are. Only one thread knows its row's number.
    header = _header(name, content, delimiter, quoted)
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()))
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=min(len(content) + 1, 1 << 30))
    try:
        table = pyarrow.csv.read_csv(io.BytesIO(content), read, parse, convert)
    except pa.ArrowException as error:
        kind = "comma" if delimiter == "," else "tab"
        raise DataError(f"{name}: not readable as {kind}-separated text ({error})") from None
    number = np.setdiff1d(np.arange(2, len(table) + len(faults) + 2), [row for row, _ in faults])
    blank = np.ones(len(table), bool)
    for column in table.columns:
        blank &= pc.fill_null(pc.equal(column, ""), True).to_numpy()
    return Rows(table.filter(pa.array(~blank)), number[~blank], faults)


def _header(name: str, content: bytes, delimiter: str, quoted: bool) -> list[str]:
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    try:
        header = next(csv.reader(lines, delimiter=delimiter, quoting=quoting), [])
    except csv.Error as error:  # no name is that long: a quote is left open, or the first row holds a text
        raise DataError(f"{name}: its first row is no header ({error}); name the columns there") from None
    _refuse_twins(name, header)
    return header


def _refuse_twins(name: str, columns: Sequence[str]) -> None:
    twins = [column for column, times in Counter(columns).items() if times > 1]
    if twins:
        raise DataError(f"{name}: more than one column is called '{twins[0]}'; rename all but one")


def _read_jsonl(name: str, content: bytes, columns: Sequence[str] | None, lists: Collection[str]) -> Rows:
    records, number, faults = [], [], []
    for row, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
            if columns is not None:
                record = {column: record[column] for column in columns if column in record}
            for column in lists:
                if isinstance(record.get(column), list):
                    record[column] = " ".join(filter(None, map(_text, record[column])))
            records.append({column: _text(value) for column, value in record.items()})
            number.append(row)
        except json.JSONDecodeError as error:
            faults.append((row, f"not JSON: {error.msg}"))
        except (ValueError, RecursionError) as error:
            faults.append((row, f"not a JSON record: {error}"))
    if not records:
        raise DataError(f'{name}: no line is a JSON object, as in {{"text": …, "label": …}}')
    names = list(dict.fromkeys(column for record in records for column in record))
    arrays = [pa.array([record.get(column) for record in records], pa.string()) for column in names]
    return Rows(pa.table(arrays, names=names), np.array(number, np.int64), faults)


def _text(value: Any) -> str | None:
    """A JSON value as text; null, NaN and what is not a single value count as missing.

    Raises:
        ValueError: text with half a surrogate pair, which no encoding can hold.
    """
    if isinstance(value, str):
        if not value.isascii():
            value.encode()
        return value
    if isinstance(value, float):
        # What pandas makes of integers with a gap: 1.0 is the label 1.
        return None if value != value else str(int(value)) if value.is_integer() else repr(value)
    return json.dumps(value) if isinstance(value, bool | int) else None


def _read_parquet(name: str, content: bytes) -> Rows:
    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name}: not readable as Parquet ({error})") from None
    return text_rows(name, table)


def text_rows(name: str, table: pa.Table) -> Rows:
    """The rows of a typed table as text; a column of lists, of structures or of bytes is all missing.

    Raises:
        DataError: two columns share a name.
    """
    _refuse_twins(name, table.column_names)
    columns = [_text_column(column) for column in table.columns]
    return Rows(pa.table(columns, names=table.column_names), np.arange(1, len(table) + 1), [])


def _text_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
    if pa.types.is_floating(column.type):
        # What pandas makes of integers with a gap: 1.0 is the label 1, NaN no label.
        column = pc.if_else(pc.is_nan(column), None, column)
        if pc.all(pc.and_(pc.equal(column, pc.trunc(column)), pc.less(pc.abs(column), EXACT))).as_py():
            column = column.cast(pa.int64())
    try:
        return column.cast(pa.string())
    except pa.ArrowException:  # bytes that are no text
        return pa.chunked_array([pa.nulls(len(column), pa.string())])

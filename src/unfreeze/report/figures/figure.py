"""What every figure of the report is made of."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

# Paul Tol's "bright" scheme: told apart with every common colour blindness, on white and on near-black.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#999999")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "pentagon")
DASHES = ("solid", "dot", "dash", "dashdot", "longdash")
# Over white or near-black, the page's ink has a contrast above 5 on its strongest tone.
SEQUENCE = [[0, "rgba(68,119,170,0.04)"], [1, "rgba(68,119,170,0.75)"]]
FORMULA = r"^[=+\-@\t\r\n]"  # what spreadsheets take for the beginning of one


@dataclass(frozen=True)
class Figure:
    """A plot with the numbers it was drawn from.

    Attributes:
        name: short and unique in a page; also its file name.
        title: what is shown.
        plot: interactive; ``plot.show()`` opens it alone.
        table: every number in the plot.
        reading: one line that says what there is to see, written from the numbers.
    """

    name: str
    title: str
    plot: go.Figure
    table: pa.Table
    reading: str

    def csv(self) -> str:
        """The table as CSV text, in which a spreadsheet finds no formula.

        Texts that begin like one are led by an apostrophe (OWASP, CSV injection); numbers stay as they are.
        """
        columns = [
            pc.replace_substring_regex(column, FORMULA, r"'\0") if pa.types.is_string(column.type) else column
            for column in self.table.columns
        ]
        names = [re.sub(FORMULA, r"'\g<0>", name) for name in self.table.column_names]
        sink = io.BytesIO()
        pyarrow.csv.write_csv(pa.table(columns, names), sink)
        return sink.getvalue().decode()


def plain(text: Any) -> str:
    """Text of the study as plotly must be given it: plotly reads tags in labels, and ours are data."""
    return html.escape(str(text), quote=False)


def blank(height: int = 380, **layout: Any) -> go.Figure:
    """An empty plot in the report's plain look; ``height`` in pixels."""
    return go.Figure(
        layout={
            "template": go.layout.Template(),
            "height": height,
            "colorway": COLOURS,
            "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
            "hovermode": "closest",
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            **layout,
        }
    )


def narrow(plot: go.Figure, **layout: Any) -> None:
    """Change a plot where the page is as narrow as a telephone; keys as in ``Plotly.relayout``, dots as ``__``."""
    plot.update_layout(meta={"narrow": {key.replace("__", "."): value for key, value in layout.items()}})


def chooser(plot: go.Figure, options: Iterable[tuple[str, dict[str, Any], dict[str, Any]]]) -> None:
    """Let the reader choose: each option is a label and what it changes in the traces and in the layout."""
    buttons = [{"label": plain(label), "method": "update", "args": [data, layout]} for label, data, layout in options]
    if len(buttons) > 1:
        menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"}
        plot.update_layout(updatemenus=[menu])


def visible(chosen: int, groups: int, size: int) -> dict[str, list[bool]]:
    """The change that shows one of several groups of traces, each of ``size``, and hides the others."""
    return {"visible": [trace // size == chosen for trace in range(groups * size)]}


def colour_of(names: Iterable[str]) -> dict[str, str]:
    """One colour for each name, in order; with more names than colours they come round again."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(dict.fromkeys(names))}


def join(names: Iterable[str], most: int = 4) -> str:
    """``a, b and c``, or ``a, b, c, d and 7 others``."""
    names = list(names)
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} others"]
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def run_labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a plot calls each run: strategy and seed, and the encoder where there are several."""
    several = len({row["encoder"] for row in rows}) > 1
    on = [f" on {row['encoder']}" if several else "" for row in rows]
    return [f"{row['strategy']}{where} · seed {row['seed']}" for row, where in zip(rows, on, strict=True)]

"""How training examples were learned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa

from unfreeze.analysis.dynamics import REGIONS, Cartography
from unfreeze.report.figures.figure import Figure, blank, chooser, visible
from unfreeze.report.formats import percent

BINS = (40, 40)  # of variability (0 to 0.5) and confidence (0 to 1): any number of examples makes 1,600 points at most
LARGEST = 16  # pixels
COLOURBAR = {"title": "Right", "tickformat": ".0%", "thickness": 12}
CORRECTNESS = [[0, "#EE6677"], [0.5, "#CCBB44"], [1, "#4477AA"]]


def data_maps(strategies: Mapping[str, Cartography]) -> Figure:
    """Confidence against variability of every training example, counted in cells, one strategy at a time.

    Args:
        strategies: the mean over seeds by name, the best first.
    """
    plot = blank(
        520,
        xaxis={"title": "Variability", "range": [0, 0.5]},
        yaxis={"title": "Confidence in the gold label", "range": [0, 1], "tickformat": ".0%"},
        showlegend=False,
        coloraxis={"colorscale": CORRECTNESS, "cmin": 0, "cmax": 1, "colorbar": COLOURBAR},
    )
    tables = []
    for number, (name, one) in enumerate(strategies.items()):
        cells = _cells(one)
        examples = cells["examples"].to_numpy()
        plot.add_trace(
            go.Scatter(
                x=cells["variability"].to_numpy().astype(np.float32),
                y=cells["confidence"].to_numpy().astype(np.float32),
                customdata=examples,
                mode="markers",
                marker={
                    # Most examples lie in one corner: areas grow with the root of a count, so that the rest is seen.
                    "size": np.round(np.maximum(3, LARGEST * (examples / examples.max()) ** 0.25), 1),
                    "color": cells["correctness"].to_numpy().astype(np.float32),
                    "coloraxis": "coloraxis",
                    "line": {"width": 0},
                },
                visible=number == 0,
                hovertemplate="%{customdata} examples, %{marker.color:.0%} of answers right<extra></extra>",
            )
        )
        tables.append(cells.add_column(0, "strategy", pa.array([name] * len(cells))))
    for edge, region in ((1, 0), (0, 2)):
        plot.add_shape(type="line", x0=0, y0=0.5, x1=0.5, y1=edge, line={"color": "#999999", "dash": "dot"})
        plot.add_annotation(x=0.3, y=0.95 if edge else 0.05, text=REGIONS[region], showarrow=False)
    plot.add_annotation(x=0.48, y=0.5, text=REGIONS[1], xanchor="right", showarrow=False)
    chooser(plot, ((name, visible(index, len(strategies), 1), {}) for index, name in enumerate(strategies)))
    table, reading = pa.concat_tables(tables), _reading(strategies)
    return Figure("data-maps", "What was easy to learn, and what never was", plot, table, reading)


def _cells(one: Cartography) -> pa.Table:
    """Cells of the map that hold an example: their middle, how many, and the share of right answers."""
    columns, rows = BINS
    x = np.minimum((one.variability * 2 * columns).astype(int), columns - 1)
    y = np.minimum((one.confidence * rows).astype(int), rows - 1)
    cell = y * columns + x
    counts = np.bincount(cell, minlength=columns * rows)
    filled = counts.nonzero()[0]
    right = np.bincount(cell, one.correctness, minlength=columns * rows)
    return pa.table(
        {
            "variability": (filled % columns + 0.5) / columns / 2,
            "confidence": (filled // columns + 0.5) / rows,
            "examples": counts[filled],
            "correctness": right[filled] / counts[filled],
        }
    )


def _reading(strategies: Mapping[str, Cartography]) -> str:
    """The regions of the first strategy and, where there are several, of the one that finds most examples hard."""
    shares = {name: np.bincount(one.region, minlength=3) / len(one.region) for name, one in strategies.items()}
    first, hardest = next(iter(shares)), max(shares, key=lambda name: shares[name][2])
    said = []
    for name in dict.fromkeys((first, hardest)):
        easy, ambiguous, hard = (percent(share) for share in shares[name])
        said.append(
            f"{name} finds {easy} of the training examples easy to learn, {ambiguous} ambiguous and {hard} hard"
        )
    return f"{'; '.join(said)}."

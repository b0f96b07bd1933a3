"""What accuracy costs: its intervals, and lines through depth and rank."""

import numpy as np
import pytest

from study_factory import Run, dataset, write_study
from unfreeze.report.content import Content
from unfreeze.report.figures import Figure
from unfreeze.report.sections import Sections


def trade_off(path, runs: list[Run]) -> Figure:
    (figure,) = Sections(Content(write_study(path, runs, dataset(rows=300)))).answer
    return figure


def depths(names_and_layers, seeds=(0, 1)) -> list[Run]:
    """Deeper is better and slower."""
    return [
        Run(
            name, seed, range(20 + seed, 120 - 10 * layers), cost={"train_seconds": 10.0 + 10 * layers}, options=options
        )
        for name, layers in names_and_layers
        for seed in seeds
        for options in [{"kind": "partial", "layers": layers} if layers else {"kind": "head-only"}]
    ]


def ranks(targets: str, values=(2, 8, 32), **options) -> list[Run]:
    return [
        Run(
            f"lora-r{rank}-{targets}",
            0,
            range(60 - rank),
            cost={"train_seconds": 100.0 + rank},
            options={"kind": "lora", "rank": rank, "alpha": 2.0 * rank, "targets": targets, **options},
        )
        for rank in values
    ]


def test_bars_are_the_intervals_of_the_comparison(tmp_path):
    figure = trade_off(tmp_path, [Run("full", 0, range(9)), Run("full", 1, range(12)), Run("lora", 0, range(60))])
    bars = {trace.name: trace for trace in figure.plot.data if trace.error_y.array}
    for row in figure.table.to_pylist():
        bar = bars[row["strategy"]]
        assert bar.y[0] + bar.error_y.array[0] == pytest.approx(row["accuracy_high"])
        assert bar.y[0] - bar.error_y.arrayminus[0] == pytest.approx(row["accuracy_low"])
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert figure.reading.endswith(
        "Bars are 95 % intervals over test items and training seeds; over test items alone for lora, with one seed."
    )


def test_with_one_seed_the_words_say_so(tmp_path):
    figure = trade_off(tmp_path, [Run("full", 0, range(9)), Run("lora", 0, range(60))])
    assert figure.reading.endswith("Bars are 95 % intervals over test items alone: there is one seed.")


def test_depth_is_one_line_from_head_only_on(tmp_path):
    runs = [*depths([("partial-4", 4), ("head-only", 0), ("partial-2", 2)]), Run("full", 0, range(9))]
    figure = trade_off(tmp_path, runs)
    by_name = {trace.name: trace for trace in figure.plot.data}
    assert set(by_name) == {"full", "partial-0…4", "nothing beats these"}
    line = by_name["partial-0…4"]
    assert line.mode == "lines+markers+text"
    assert list(line.text) == ["0", "2", "4"]
    assert list(line.x) == [10, 30, 50]
    assert list(line.y) == sorted(line.y)
    assert [name for name, _ in line.customdata] == ["head-only", "partial-2", "partial-4"]
    assert len(line.error_y.array) == 3
    menu = figure.plot.layout.updatemenus[0]
    assert [len(x) for x in menu.buttons[1].args[0]["x"][:-1]] == [len(trace.x) for trace in figure.plot.data[:-1]]
    assert "(0: head-only)" in figure.reading


def test_rank_is_one_line_for_each_set_of_targets(tmp_path):
    figure = trade_off(tmp_path, ranks("query-value") + ranks("all-linear") + ranks("attention", values=(2, 8)))
    lines = {trace.name: list(trace.text) for trace in figure.plot.data if trace.text}
    assert lines == {f"lora-r2…32-{targets}": ["2", "8", "32"] for targets in ("query-value", "all-linear")}
    assert {"lora-r2-attention", "lora-r8-attention"} < {trace.name for trace in figure.plot.data}


def test_what_differs_in_more_than_depth_or_rank_is_no_line(tmp_path):
    twice = depths([("partial-2 (a)", 2), ("partial-2 (b)", 2), ("partial-4", 4)])
    mixed = ranks("query-value", values=(2, 8)) + ranks("query-value-dora", values=(32,), dora=True)
    figure = trade_off(tmp_path, twice + mixed)
    assert not any(trace.text for trace in figure.plot.data)
    assert "head-only)" not in figure.reading


def test_a_narrow_range_of_costs_has_ticks_of_its_own(tmp_path):
    figure = trade_off(tmp_path, ranks("query-value"))
    axis = figure.plot.layout.xaxis
    np.testing.assert_allclose(axis.tickvals, np.geomspace(102, 132, 4))
    assert axis.ticktext[0].replace("\u202f", " ") == "1 min 42 s"

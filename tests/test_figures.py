"""Numbers in figures, recomputed from the prediction tables with other libraries."""

import io
from itertools import compress
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.csv
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from study_factory import Run, dataset, write_study
from unfreeze.analysis.compare import pareto_front
from unfreeze.records import SPLITS
from unfreeze.report import figures, write_report
from unfreeze.report.content import Content
from unfreeze.report.figures import Figure
from unfreeze.report.sections import Sections
from unfreeze.studydir import read_json, write_json

MIB = 2**20
MEMORY = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes")
TIME = ("forward_seconds", "backward_seconds", "optimizer_seconds")


def cost(train_seconds: float, mebibytes: tuple[float, ...], seconds: tuple[float, ...]) -> dict[str, float]:
    memory = {key: value * MIB for key, value in zip(MEMORY, mebibytes, strict=True)}
    return {"train_seconds": train_seconds, **memory, **dict(zip(TIME, seconds, strict=True))}


LORA, HEAD = cost(100.0, (80, 1, 2, 200), (30, 60, 1)), cost(10.0, (80, 0.5, 1, 3), (6, 2, 1))
RUNS = [
    *(Run("LoRA <b>r8", seed, range(3 * seed, 6 + seed), cost=LORA) for seed in (0, 1)),
    *(Run("head-only", seed, range(25 + seed), cost=HEAD) for seed in (0, 1)),
]


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    return Sections(Content(write_study(tmp_path_factory.mktemp("study"), RUNS)))


def named(sections: Sections, name: str) -> Figure:
    return next(figure for figure in sections.figures if figure.name == name)


def test_every_function_is_in_the_page_once_and_stands_alone(sections):
    found = sections.figures
    assert len({figure.name for figure in found}) == len(found) == len(figures.__all__) - 1
    for figure in found:
        assert isinstance(figure.plot, go.Figure)
        assert figure.reading.endswith(".")
        assert pyarrow.csv.read_csv(io.BytesIO(figure.csv().encode())).num_rows == len(figure.table) > 0


def test_labels_are_no_markup_in_plots(sections):
    for figure in sections.figures:
        assert "<b>r8" not in figure.plot.to_json()


def test_confusion_agrees_with_scikit_learn(sections):
    rows = named(sections, "confusion").table.to_pylist()
    for row in sections.runs:
        table = sections.content.predictions(row["run_id"])
        counts = np.zeros((3, 3), int)
        labels = sections.content.dataset.labels
        for cell in rows:
            if cell["run_id"] == row["run_id"]:
                counts[labels.index(cell["gold"]), labels.index(cell["predicted"])] = cell["count"]
        assert (counts == confusion_matrix(table["gold"].to_numpy(), table["predicted"].to_numpy())).all()


def test_class_report_agrees_with_scikit_learn(sections):
    table = sections.content.predictions(sections.runs[0]["run_id"])
    scores = precision_recall_fscore_support(table["gold"].to_numpy(), table["predicted"].to_numpy())
    shown = [row[2:] for row in sections.classes.rows[:3]]
    np.testing.assert_allclose(np.array(shown, float), np.array(scores, float).T)


def test_mistake_labels_are_those_of_the_mistakes(sections):
    rows = [row for row in named(sections, "mistake-labels").table.to_pylist() if row["run_id"] == RUNS[0].run_id]
    # Rows 0 to 5 are wrong: gold goes round the three labels twice, and each is answered with the next.
    assert [row["gold_among_mistakes"] for row in rows] == [2, 2, 2]
    assert [row["predicted_among_mistakes"] for row in rows] == [2, 2, 2]


def test_sets_and_overlap_of_known_mistakes(sections):
    combinations = {row["wrong_in"]: row["examples"] for row in named(sections, "mistake-sets").table.to_pylist()}
    assert combinations == {"LoRA <b>r8 · seed 0; head-only · seed 0": 6, "head-only · seed 0": 19}
    shares = named(sections, "mistake-overlap").table
    assert shares["LoRA <b>r8 · seed 1"].to_pylist()[0] == pytest.approx(3 / 7)
    assert "3 of 60 examples are wrong in every run" in named(sections, "mistake-overlap").reading


def test_the_front_holds_what_nothing_beats():
    assert pareto_front([3, 1, 2, 2], [0.9, 0.5, 0.4, 0.7]) == [1, 3, 0]
    assert pareto_front([1, 1], [0.5, 0.6]) == [1]


def test_the_trade_off_offers_only_what_was_measured(sections):
    menu = named(sections, "trade-off").plot.layout.updatemenus[0]
    assert [button.label for button in menu.buttons] == [
        "Train time with frozen prefix",
        "Peak memory",
        "Trainable parameters",
    ]
    assert named(sections, "trade-off").table["alone_seconds"].to_pylist() == [100, 10]


def test_sure_mistakes_and_flips(sections):
    headings = [label for label, _ in sections.sure_mistakes.columns]
    assert headings == ["Run", "Premise", "Hypothesis", "Gold", "Predicted", "Confidence", "Wrong in (of 4 runs)"]
    assert len(sections.sure_mistakes.rows) == 6 + 4 + 25 + 26
    assert {row[6] for row in sections.sure_mistakes.rows[:3]} == {3}
    assert sections.flips["counts"]["0-1"] == {
        "both_right": 35,
        "only_a": 19,
        "only_b": 0,
        "same_mistake": 6,
        "other_mistake": 0,
    }


def test_pairs_say_what_was_decided_the_better_first(sections):
    (row,) = sections.pairs.rows
    assert row[:3] == ["LoRA <b>r8", "better", "head-only"]
    assert row[3] == pytest.approx((25.5 - 5) / 60)
    assert row[4] < row[3] < row[5]
    assert row[8:] == [None, None]
    assert [strategy["against_best"] for strategy in sections.content.leaderboard] == [None, "worse"]


def test_data_maps_count_every_training_example_once_a_strategy(sections):
    figure = named(sections, "data-maps")
    cells = figure.table.to_pylist()
    for name in sections.learned_by:
        assert sum(cell["examples"] for cell in cells if cell["strategy"] == name) == 60
    never = next(cell for cell in cells if cell["confidence"] < 0.1)
    assert (never["examples"], never["correctness"]) == (6, 0)
    # Of 60, six are never learned, and both seeds of LoRA learn 3, 4 and 5 only in the last epoch.
    assert figure.reading.startswith(
        "LoRA <b>r8 finds 85.0\u202f% of the training examples easy to learn, 5.0\u202f% am"
    )


def test_what_is_learned_late_and_what_never(sections):
    errors, times = sections.dynamics_tables
    assert [row[0] for row in errors.rows] == [f"a man sleeps {5 * i}" for i in range(6)]
    assert {row[-1] for row in errors.rows} == {4}
    assert [label for label, _ in times.columns[-2:]] == ["LoRA <b>r8", "head-only"]
    # Seeds of head-only learn 0 to 25 late, LoRA's 0 to 6; the tenth ones are never learned by either.
    late = [i for i in range(26) if i % 10 and i > 6]
    assert {row[1] for row in times.rows} == {f"nobody is outside {i}" if i % 3 else f"a man {i}" for i in late}
    assert {tuple(row[-2:]) for row in times.rows} == {(1, 3)}
    assert f"learns {len(late)} earlier than head-only (0 later)" in times.note


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    """Gold 0 is "a man …", the other two are "nobody is outside …"; a blob for each."""
    runs = [Run("full", 0, range(240)), Run("lora", 0, [*range(60), *range(60, 120, 3)]), Run("few", 0, range(10))]
    path = tmp_path_factory.mktemp("mapped")
    return Sections(
        Content(write_study(path, runs, dataset(rows=300, text='<i>A man</i> & "his" dog ' + 99 * "walk ")))
    )


def test_the_map_finds_planted_clusters_and_names_them(mapped):
    table = named(mapped, "mistake-map").table
    full = [row for row in table.to_pylist() if row["run"] == "full · seed 0"]
    assert len(full) == 240
    assert {(row["cluster"][3:], row["gold"]) for row in full} == {
        ("entailment → neutral", "entailment"),
        ("is, nobody, outside", "neutral"),
        ("is, nobody, outside", "contradiction"),
    }
    assert {row["predicted"] for row in full if row["gold"] == "contradiction"} == {"entailment"}
    assert len({row["cluster"] for row in full}) == 3
    assert set(table["run"].to_pylist()) == {"full · seed 0", "lora · seed 0"}, "ten mistakes are no map"
    reading = named(mapped, "mistake-map").reading
    assert reading.startswith("lora · seed 0: 3 clusters hold 100\u202f% of 80 mistakes, 0\u202f% are in none.")
    assert reading.endswith("mostly answers neutral where gold is entailment (100\u202f%).")


def test_points_of_the_map_show_escaped_texts_of_bounded_length(mapped):
    plot = named(mapped, "mistake-map").plot
    shown = [text for trace in plot.data for text in trace.text]
    assert len(shown) == 320
    for text in shown:
        assert text.startswith('&lt;i&gt;A man&lt;/i&gt; &amp; "his" dog ')
        assert text.replace("<br>", "").count("<") == 0
        assert max(map(len, text.split("<br>"))) < 80
        assert len(text) < 400
        assert "<br>gold " in text


def test_the_menu_shows_the_map_of_one_run(mapped):
    plot = named(mapped, "mistake-map").plot
    assert [trace.visible for trace in plot.data] == [True] * 4 + [False] * 4
    second = plot.layout.updatemenus[0].buttons[1]
    assert (second.label, second.args[0]["visible"]) == ("full · seed 0", [False] * 4 + [True] * 4)
    looks = {(trace.marker.color, trace.marker.symbol) for trace in plot.data[:4]}
    assert len(looks) == 4


def test_a_large_map_draws_a_sample_and_counts_all(mapped, monkeypatch):
    monkeypatch.setattr("unfreeze.report.figures.map.POINTS_OF_A_RUN", 30)
    (figure,) = Sections(mapped.content).map
    assert len(figure.table) == 60
    assert "100\u202f% of 80 mistakes" in figure.reading
    assert figure.reading.endswith("A random 30 of them are drawn.")


def test_runs_without_states_have_no_map(tmp_path):
    study = write_study(tmp_path, RUNS)
    for row in RUNS[2:]:
        study.run(row.run_id).mistakes.unlink()
    assert Sections(Content(study)).map == []


def test_single_texts_and_many_classes(tmp_path: Path):
    labels = tuple(f"intent {i}" for i in range(40))
    data = dataset(rows=200, labels=labels, pairs=False)
    study = write_study(tmp_path, [Run("full", 0, range(0, 200, 3)), Run("lora", 0, range(0, 200, 2))], data)
    sections = Sections(Content(study))
    assert [label for label, _ in sections.sure_mistakes.columns][1] == "Text"
    assert len(sections.figures) == len(figures.__all__) - 3
    assert "word overlap" not in named(sections, "slice-errors").table["slice"].to_pylist()


def test_memory_and_time_are_split(sections):
    memory = named(sections, "memory")
    assert memory.table["activation_bytes"].to_pylist() == [200 * MIB, 3 * MIB]
    assert memory.plot.layout.xaxis.title.text == "Memory (MiB)"
    assert [bar.x[0] for bar in memory.plot.data] == [80, 1, 2, 200]
    assert memory.reading == (
        "LoRA <b>r8 takes most, 283\u202fMiB, 71\u202f% of it activations; "
        "head-only takes least, 84.5\u202fMiB, 95\u202f% of it weights."
    )
    assert named(sections, "time").reading.startswith(
        "LoRA <b>r8 takes most, 1\u202fmin 31\u202fs, 66\u202f% of it backward"
    )


def test_what_was_not_measured_is_named_and_has_no_bar(tmp_path: Path):
    unmeasured = Run("full", 0, range(9), cost={**LORA, "gradient_bytes": None, "forward_seconds": None})
    found = Sections(Content(write_study(tmp_path, [Run("lora", 0, range(3), cost=LORA), unmeasured]))).compute
    assert [figure.name for figure in found] == ["costs", "memory", "time"]
    for figure in found[1:]:
        assert figure.table["strategy"].to_pylist() == ["lora"]
        assert figure.reading.endswith("Not measured: full.")


def test_a_study_made_before_the_parts_were_measured(tmp_path: Path):
    study = write_study(tmp_path, [Run("lora", 0, range(3)), Run("partial", 0, range(9))])
    rows = read_json(study.results_json)
    for row in rows:
        row["cost"] = {key: value for key, value in row["cost"].items() if key not in (*MEMORY, *TIME)}
    write_json(study.results_json, rows)
    sections = Sections(Content(study))
    assert [figure.name for figure in sections.compute] == ["costs"]
    assert sections.lora_against_partial is None
    page = write_report(study).read_text(encoding="utf-8")
    assert '<th class="number">Gradients</th>' in page
    assert '<th class="number">Energy</th>' not in page


@pytest.mark.parametrize(
    ("lora", "partial", "said"),
    [
        (
            cost(30.0, (80, 1, 2, 200), (10, 20, 1)),
            cost(20.0, (80, 10, 20, 40), (10, 5, 1)),
            "lora is no cheaper than partial, in memory (283 MiB against 150 MiB) or in time (30 s against 20 s): "
            "it keeps 1.00 MiB of gradients against 10.0 MiB, but saves 200 MiB of activations against 40.0 MiB; "
            "its backward passes take 20 s against 5 s.",
        ),
        (
            cost(30.0, (80, 1, 2, 20), (10, 20, 1)),
            cost(20.0, (80, 10, 20, 40), (10, 25, 1)),
            "lora is cheaper than partial in memory (103 MiB against 150 MiB) but not in time (30 s against 20 s): "
            "it keeps 1.00 MiB of gradients against 10.0 MiB, and saves 20.0 MiB of activations against 40.0 MiB; "
            "its backward passes take 20 s against 25 s.",
        ),
    ],
)
def test_why_lora_is_or_is_not_cheaper(tmp_path: Path, lora, partial, said):
    runs = [Run("partial", 0, range(9), cost=partial), Run("lora", 0, range(3), cost=lora)]
    assert Sections(Content(write_study(tmp_path, runs))).lora_against_partial.replace("\u202f", " ") == said


def test_nothing_is_said_of_lora_without_a_rank_or_on_another_encoder(tmp_path: Path):
    lora = Run("lora", 0, range(3), cost=LORA)
    for name, other in (
        ("unranked", Run("partial", 0, range(45), cost=HEAD)),
        ("elsewhere", Run("partial", 0, range(9), encoder="bert", cost=HEAD)),
        ("absent", Run("full", 0, range(9), cost=HEAD)),
    ):
        assert Sections(Content(write_study(tmp_path / name, [lora, other]))).lora_against_partial is None


def test_tokens_are_shown_with_the_length_at_which_they_are_cut(sections):
    lengths = named(sections, "text-lengths")
    [menu] = lengths.plot.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["Words", "Characters", "Tokens"]
    shown = list(compress(lengths.plot.data, menu.buttons[2].args[0]["visible"]))
    assert [trace.name for trace in shown] == [*(s for s in SPLITS for _ in range(2)), "cut at 128 tokens"]
    assert tuple(shown[-1].x) == (128, 128)
    rows = [row for row in lengths.table.to_pylist() if row["unit"] == "Tokens" and row["split"] == "train"]
    assert sum(row["examples"] for row in rows) == 60  # 0 to 59 tokens, one example each
    assert [shown[0].lowerfence[0], shown[0].upperfence[0]] == pytest.approx([2.95, 56.05])
    assert lengths.reading.endswith("None exceeds 128 tokens.")


def test_a_cut_far_beyond_the_longest_text_is_only_told(sections):
    tokens = {split: {**found, "max_length": 512} for split, found in sections.content.explore["tokens"].items()}
    lengths = figures.text_lengths(sections.content.dataset.splits, tokens)
    assert {trace.name for trace in lengths.plot.data} == set(SPLITS)
    assert lengths.reading.endswith("None exceeds 512 tokens.")


def test_a_study_explored_before_tokens_had_a_histogram(sections):
    tokens = {split: {"median": 3.0, "max_length": 128, "truncated_share": 0.0} for split in SPLITS}
    lengths = figures.text_lengths(sections.content.dataset.splits, tokens)
    assert set(lengths.table["unit"].to_pylist()) == {"Words", "Characters"}


def test_no_cell_of_a_csv_is_a_formula():
    table = pa.table({"=run": ["=1+1", "-a", "+b", "@c", "a=1", None], "change": [-1.5, 2.0, None, 0.0, -3.0, 1.0]})
    saved = pyarrow.csv.read_csv(io.BytesIO(Figure("x", "x", go.Figure(), table, "x.").csv().encode()))
    assert saved["'=run"].to_pylist() == ["'=1+1", "'-a", "'+b", "'@c", "a=1", ""]
    assert saved["change"].to_pylist() == table["change"].to_pylist()

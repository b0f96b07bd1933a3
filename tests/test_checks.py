import math
import re
from pathlib import Path

import numpy as np
import pytest

from study_factory import Run, baseline, dataset, predictions, result
from unfreeze.analysis.baselines import HYPOTHESIS_ONLY
from unfreeze.analysis.checks import CHECKS, Evidence, code, rate_at_edge, run_checks
from unfreeze.analysis.compare import compare

DOCS = Path(__file__).parent.parent / "docs" / "checks.md"


def evidence(runs: list[Run], **changes) -> Evidence:
    data = dataset(rows=300)
    tables = {run.run_id: predictions(data.splits["test"], data.labels, run) for run in runs}
    rows = [result(run, data, {"test": tables[run.run_id]}) for run in runs]
    for row in rows:
        row["best_epoch"] = 1
    groups = data.splits["test"]["group"].to_numpy()
    found = {"results": rows, "comparison": compare(rows, tables.__getitem__, groups), "labels": 3}
    return Evidence(**{**found, "train_groups": groups + 10_000, "test_groups": groups, **changes})


FINE = [Run(name, seed, range(start, start + 30)) for name, start in (("full", 0), ("lora", 200)) for seed in (0, 1)]
CLEAR = [Run(name, seed, range(wrong)) for name, wrong in (("full", 30), ("lora", 150)) for seed in (0, 1)]


def codes(found: Evidence) -> list[str]:
    return [finding.code for finding in run_checks(found)]


def test_a_clear_study_has_no_warning():
    assert codes(evidence(CLEAR)) == []


def test_each_warning_on_a_study_that_earns_it():
    assert codes(evidence(FINE)) == ["UNF007"]
    stuck = [Run("stuck", seed, range(105, 300)) for seed in (0, 1)]
    barely = [Run("full", seed, range(184)) for seed in (0, 1)]
    assert codes(evidence([*barely, *stuck])) == ["UNF001"], "what did not learn is not undecided against the best"
    assert codes(evidence([Run("full", 0, range(200)), Run("full", 1, range(200))])) == ["UNF001"]
    assert codes(evidence([Run("full", 0, range(9))])) == ["UNF008"]
    assert codes(evidence(CLEAR, truncated_share=0.011)) == ["UNF006"]
    groups = np.arange(150)
    assert codes(evidence(CLEAR, train_groups=groups[:75])) == ["UNF005"]


def test_uniform_loss_last_epoch_and_machines():
    found = evidence(CLEAR)
    found.results[0]["metrics"]["test"] |= {"loss": math.log(3) * 1.01, "brier": 0.66}
    found.results[3]["metrics"]["test"] |= {"loss": math.log(3) * 1.01, "brier": 0.45}  # three in four right, too sure
    found.results[1]["best_epoch"] = 2
    found.results[2]["environment"] = {"device": "cuda"}
    assert codes(found) == ["UNF002", "UNF004", "UNF010"]


def tried(accuracies: dict[float, float | None], name: str = "lora (learning_rate {})") -> Evidence:
    """One run for each learning rate, with its validation accuracy; None where it diverged."""
    rows = []
    for rate, accuracy in accuracies.items():
        run = Run(name.format(f"{rate:g}"), status="finished" if accuracy is not None else "diverged")
        row = result(run, dataset(), {})
        row["recipe"]["learning_rate"] = rate
        if accuracy is not None:
            row["metrics"] = {"validation": {"accuracy": accuracy}}
        rows.append(row)
    return Evidence(rows, {"strategies": [], "pairs": [], "ranking": []}, 3, np.arange(3), np.arange(3))


def test_the_best_learning_rate_at_an_end_of_those_tried():
    found = rate_at_edge(tried({1e-4: 0.7, 3e-4: 0.8, 1e-3: 0.85}))
    assert found.endswith("may lie beyond: lora on minilm (0.001, the highest of 3).")
    assert "(0.0001, the lowest of 3)" in rate_at_edge(tried({1e-3: 0.7, 3e-4: 0.8, 1e-4: 0.85}))
    both = rate_at_edge(tried({1e-4: 0.7, 3e-4: 0.8, 1e-3: 0.85}, "lora (alpha 8, learning_rate {})"))
    assert "lora (alpha 8, learning_rate …) on minilm" in both


@pytest.mark.parametrize(
    "found",
    [
        tried({1e-4: 0.7, 3e-4: 0.9, 1e-3: 0.8}),
        tried({1e-4: 0.7, 3e-4: 0.8, 1e-3: None}),
        tried({1e-4: None, 3e-4: None, 1e-3: None}),
        tried({1e-4: 0.7, 3e-4: 0.8}),
        tried({1e-4: 0.7, 3e-4: 0.8, 1e-3: 0.85}, "rank {}"),
    ],
    ids=["in the middle", "the next one diverged", "all diverged", "only two", "no grid of rates"],
)
def test_no_learning_rate_is_at_an_end(found):
    assert rate_at_edge(found) is None


def test_a_hypothesis_alone_that_comes_close():
    """The best is right in 270 of 300 rows, the most frequent class in 100: half way is 185."""

    def alone(right):
        return baseline(HYPOTHESIS_ONLY, "minilm", dataset(300), range(300 - right))[0]

    assert codes(evidence(CLEAR, baselines=[alone(184)])) == []
    assert codes(evidence(CLEAR, baselines=[alone(186)])) == ["UNF009"]
    mostly_one = [Run(name, seed, range(wrong)) for name, wrong in (("full", 175), ("lora", 190)) for seed in (0, 1)]
    assert "UNF009" not in codes(evidence(mostly_one, baselines=[alone(112)])), "as good as chance, close as it is"
    failed = {**alone(250), "status": "failed", "metrics": None}
    assert codes(evidence(CLEAR, baselines=[failed])) == []


def test_a_tuned_number_at_an_end_of_its_range():
    at = [
        {"key": "learning_rate", "value": 0.031, "end": "highest", "tried": 5},
        {"key": "rank", "value": 2, "end": "lowest", "tried": 3},
    ]
    found = evidence(CLEAR, searches=[{"strategy": "lora", "encoder": "minilm", "at_edge": at}])
    assert rate_at_edge(found) == (
        "The best learning rate is an end of those tried, so a better one may lie beyond: lora on minilm "
        "(0.031, the highest of 5). Tuning chose an end of the values that were named: lora on minilm "
        "(rank 2, the lowest of 3)."
    )
    assert codes(evidence(CLEAR, searches=[{"strategy": "lora", "encoder": "minilm", "at_edge": []}])) == []


def test_a_warning_can_be_muted():
    assert run_checks(evidence(FINE), mute=["UNF007"]) == []


def test_codes_are_unique_in_order_and_documented():
    defined = [code(check) for check in CHECKS]
    assert defined == sorted(set(defined))
    assert re.findall(r"^\| `(UNF\d{3})`", DOCS.read_text(encoding="utf-8"), re.MULTILINE) == defined


def test_a_failed_run_alone_warns_of_nothing():
    row = result(Run("full", status="failed"), dataset(), {})
    groups = np.arange(3)
    found = Evidence([row], compare([row], {}.__getitem__, groups), 3, groups + 9, groups)
    assert run_checks(found) == []
    with pytest.raises(AttributeError):
        found.labels = 4

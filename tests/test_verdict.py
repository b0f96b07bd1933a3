"""What the verdict says of time and amounts where all strategies were given the same."""

import pytest

from study_factory import Run, write_study
from unfreeze.analysis.verdict import write_verdict
from unfreeze.report import write_report
from unfreeze.studydir import read_json, write_json

SENTENCES = ["Compared at equal something: 3 for every run."]


@pytest.fixture
def folder(tmp_path):
    """Full is best, LoRA as good and faster, head-only worse and faster still."""
    runs = [
        Run(name, seed, range(wrong), cost={"train_seconds": seconds, "flops": 2e9})
        for name, wrong, seconds in (("full", 4, 40.0), ("lora", 4, 30.0), ("head-only", 30, 5.0))
        for seed in (0, 1)
    ]
    return write_study(tmp_path / "study", runs)


def at(folder, kind, name):
    limits = {"minilm": 4e9}
    comparison = read_json(folder.comparison)
    comparison["compared_at"] = {"kind": kind, "name": name, "limits": limits, "sentences": SENTENCES}
    return comparison


def test_the_verdict_begins_with_what_is_equal(folder):
    verdict = write_verdict(at(folder, "flops", "FLOPs"))
    assert verdict[0].startswith("At equal FLOPs, full has the highest test accuracy: ")
    assert SENTENCES[0] in verdict
    plain = write_verdict(at(folder, "steps", None))
    assert plain[0].startswith("full has the highest")
    assert SENTENCES[0] not in plain


def test_of_time_nothing_is_said_where_it_is_equal(folder):
    said = {kind: " ".join(write_verdict(at(folder, kind, kind))) for kind in ("flops", "memory", "seconds")}
    for kind in ("flops", "memory"):
        assert "trains fastest" in said[kind]
        assert "With less of its training time: head-only" in said[kind]
    assert "fastest" not in said["seconds"]
    assert "training time" not in said["seconds"]


@pytest.mark.parametrize(("kind", "heading"), [("flops", "FLOPs"), ("seconds", "Seconds")])
def test_the_report_shows_what_each_run_took_of_it(folder, kind, heading):
    write_json(folder.comparison, at(folder, kind, "something"))
    rows = [row | {"steps": 10, "epochs": 2} for row in read_json(folder.results_json)]
    write_json(folder.results_json, rows)
    page = write_report(folder).read_text()
    assert "<h3>Equal something</h3>" in page
    assert SENTENCES[0] in page
    assert f'{{"kind": "count", "label": "{heading}"}}' in page
    if kind == "flops":
        assert "2000000000.0, 0.5]" in page

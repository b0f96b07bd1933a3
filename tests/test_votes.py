"""Annotators' labels from the lines of SNLI 1.0 to the report's table, on made-up sentences in exactly its format."""

import json

import pytest
from scipy.special import rel_entr

from study_factory import Run, write_study
from unfreeze.datasets import load_dataset
from unfreeze.report import write_report
from unfreeze.report.content import Content
from unfreeze.report.sections import Sections
from unfreeze.study import DataSpec

E, N, C = "entailment", "neutral", "contradiction"
TEST = [
    ([E, E, E, E, E], E),
    ([N, N, E, N, C], N),
    ([C, C, C, C, N], C),
    ([N, E, C, N, E], "-"),  # no majority: no gold label, and no example
    ([E, E, C, "", E], E),  # blank where an annotator saw the pair and could not say (the corpus's README)
]


def line(number: int, given: list[str], gold: str) -> str:
    """One pair as snli_1.0_*.jsonl has it: these keys in this order, parses as text."""
    caption = f"{4_000_000_000 + number}.jpg#{number % 5}"
    record = {
        "annotator_labels": given,
        "captionID": caption,
        "gold_label": gold,
        "pairID": f"{caption}r1{gold[0]}",
        "sentence1": f"Robot {number} paints a fence.",
        "sentence1_binary_parse": f"( ( Robot {number} ) ( ( paints ( a fence ) ) . ) )",
        "sentence1_parse": f"(ROOT (S (NP (NN Robot) (CD {number})) (VP (VBZ paints) (NP (DT a) (NN fence))) (. .)))",
        "sentence2": "A machine is at work.",
        "sentence2_binary_parse": "( ( A machine ) ( ( is ( at work ) ) . ) )",
        "sentence2_parse": "(ROOT (S (NP (DT A) (NN machine)) (VP (VBZ is) (PP (IN at) (NP (NN work)))) (. .)))",
    }
    return json.dumps(record) + "\n"


@pytest.fixture
def snli(tmp_path):
    """Most training pairs were labelled once, by who wrote them; those of the other splits five times."""
    folder = tmp_path / "snli_1.0"
    folder.mkdir()
    pairs = {"train": [([label], label) for label in (E, N, C)] * 4, "dev": TEST[:3], "test": TEST}
    for offset, (split, rows) in enumerate(pairs.items()):
        text = "".join(line(100 * offset + i, *row) for i, row in enumerate(rows))
        (folder / f"snli_1.0_{split}.jsonl").write_text(text)
    return load_dataset(DataSpec(dataset="snli", path=str(folder)))


def test_lines_become_examples_with_votes(snli):
    test = snli.splits["test"]
    assert test["votes"].to_pylist() == [[5, 0, 0], [1, 3, 1], [0, 1, 4], [3, 0, 1]]
    assert test["gold"].to_pylist() == [0, 1, 2, 0]
    assert test["guid"][1].as_py() == "4000000201.jpg#1r1n"
    assert snli.splits["train"]["votes"].to_pylist()[:3] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert snli.dropped.to_pylist() == [{"source": "snli_1.0_test.jsonl", "row": 4, "reason": "no label"}]


def test_the_report_says_how_far_a_run_is_from_its_annotators(snli, tmp_path):
    """Every answer is 0.9 for the gold label but the second's, which is 0.9 for contradiction."""
    study_dir = write_study(tmp_path / "study", [Run("full", 0, [1])], snli)
    audit = Sections(Content(study_dir)).audit
    assert audit["cuts"]["annotators for gold"] == [("5 of 5", 1), ("4 of 5", 1), ("3 of 4", 1), ("3 of 5", 1)]
    accuracies = [cell["accuracy"] for cell in audit["rows"][0]["cells"]]
    assert accuracies[-4:] == [1, 1, 1, 0]
    people = [[1, 0, 0], [0.2, 0.6, 0.2], [0, 0.2, 0.8], [0.75, 0, 0.25]]
    answers = [[0.9, 0.05, 0.05], [0.05, 0.05, 0.9], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]]
    middles = [[(p + q) / 2 for p, q in zip(*pair, strict=True)] for pair in zip(people, answers, strict=True)]
    kl = rel_entr(people, answers).sum(axis=1).mean()
    js = (rel_entr(people, middles) + rel_entr(answers, middles)).sum(axis=1).mean() / 2
    assert audit["rows"][0]["human"] == pytest.approx({"kl": kl, "js": js}, abs=1e-6)
    page = write_report(study_dir).read_text(encoding="utf-8")
    table = page[page.index('<table class="audit">') :].split("</table>")[0]
    assert f'data-sort="{audit["rows"][0]["human"]["kl"]}">{kl:.3f}</td>' in table
    assert f">{js:.3f}</td>" in table
    assert all(f">{part}<br><small>n = 1</small>" in table for part in ("5 of 5", "3 of 4"))

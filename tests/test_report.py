import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from study_factory import Run, baseline, dataset, write_baselines, write_study
from unfreeze.analysis.baselines import HYPOTHESIS_ONLY
from unfreeze.errors import StudyDirError
from unfreeze.records import VOTES
from unfreeze.report import write_report
from unfreeze.report.formats import count, percent, seconds, short, size
from unfreeze.studydir import StudyDir, read_json, write_json

NASTY = "<script>alert(1)</script> \"'&amp; </script><img src=x onerror=alert(2)> 🙂 שלום {{ 7*7 }}"


def page(path: Path, *args, **kwargs) -> str:
    return write_report(write_study(path, *args, **kwargs)).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Counts start tags and keeps attributes, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


RUNS = [
    *(Run("LoRA r8", seed, range(seed, 6 + seed)) for seed in (0, 1)),
    *(Run("head-only", seed, range(25 + seed)) for seed in (0, 1)),
]


def test_the_page_says_what_was_found(tmp_path):
    html = page(tmp_path, RUNS)
    assert "LoRA r8 has the highest test accuracy: 90.0 %" in html
    assert "90.00\u202f%" in html
    assert "the development split serves as test" in html
    assert "this encoder was trained on NLI pairs" in html


@pytest.mark.parametrize(
    "runs",
    [
        [Run("full")],
        [Run("full", 0), Run("full", 1, range(3))],
        [Run("full"), Run("lora", status="diverged")],
        [Run("full", status="failed")],
        [Run("full"), Run("lora", status="pending")],
        [Run("stuck", 0, range(45)), Run("stuck", 1, range(50))],
    ],
    ids=[
        "one run without a mistake",
        "one strategy",
        "a failed run",
        "only a failed run",
        "a run to come",
        "nothing learned",
    ],
)
def test_every_kind_of_study_renders(tmp_path, runs):
    html = page(tmp_path, runs)
    assert html.rstrip().endswith("</html>")
    assert not re.search(r">(None|nan|NaN)<", html)


def test_equivalent_and_undecided_are_marked_apart(tmp_path):
    data, wrong = dataset(rows=4000), range(400)
    open_ = Run("lora", 0, range(3600, 4000))
    html = page(tmp_path, [Run("full", 0, range(399)), Run("bitfit", 0, wrong), open_, Run("ia3", 0, range(900))], data)
    marks = re.findall(r'data-sort="\d">([^<]*)</td>\s*<th scope="row">(\S+)</th>', html)
    assert [(mark.strip(), name) for mark, name in marks] == [
        ("1", "full"),
        ("2 =", "bitfit"),
        ("3 ?", "lora"),
        ("4", "ia3"),
    ]
    assert "Equivalent to full, within ±0.5 points of it: bitfit (+0.0 points, 90 % interval" in html
    assert "Undecided whether lora is any worse" in html
    assert "ia3 gives up" in html


def test_what_older_folders_did_not_measure_is_a_dash(tmp_path):
    study_dir = write_study(tmp_path, RUNS)
    rows = read_json(study_dir.results_json)
    for row in rows:
        for key in ("calibrated", "brier", "ece_mass"):
            del row["metrics"]["test"][key]
    write_json(study_dir.results_json, rows)
    comparison = read_json(study_dir.comparison)
    del comparison["equivalence"]
    for pair in comparison["pairs"]:
        for key in ("detectable", "to_settle", "interval_90", "p_equivalence", "p_equivalence_holm"):
            del pair[key]
    write_json(study_dir.comparison, comparison)
    html = write_report(study_dir).read_text(encoding="utf-8")
    assert '"LoRA r8 \\u00b7 seed 0", null, ' in html
    assert "% after temperature scaling" not in html


def test_calibration_is_given_before_and_after(tmp_path):
    html = page(tmp_path, [Run("full", 0, range(20))])
    assert re.search(r"Expected calibration error is 23\.3.% for full · seed 0, 0\.0.% after temperature", html)


def test_how_examples_were_learned_is_shown_where_it_was_recorded(tmp_path):
    one = [Run("full"), Run("lora", dynamics=False)]
    assert 'id="dynamics"' in page(tmp_path / "some", one)
    assert 'id="dynamics"' not in page(tmp_path / "none", one[1:])


def test_failures_are_named(tmp_path):
    html = page(tmp_path, [Run("full"), Run("lora", status="diverged")])
    assert "Diverged at step 7: the loss is not finite" in html


def test_texts_are_data(tmp_path):
    plain = Elements(page(tmp_path / "plain", RUNS))
    data = dataset(text=NASTY, labels=("<b>yes", "no & \"maybe'"))
    runs = [Run("<i>full", 0, range(25)), Run("{{ 7*7 }}", 0, range(30))]
    runs = runs + [Run(run.strategy, 1, run.mistakes) for run in runs]
    nasty = Elements(page(tmp_path / "nasty", runs, data))
    for tag in ("script", "img", "b", "i"):
        assert nasty.tags.count(tag) == plain.tags.count(tag)
    assert not [name for name, _ in nasty.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in (tmp_path / "nasty" / "report.html").read_text(encoding="utf-8")


def test_nothing_is_fetched(tmp_path):
    elements = Elements(page(tmp_path, RUNS))
    assert not [value for name, value in elements.attributes if name == "src"]
    assert all(value.startswith("#") for name, value in elements.attributes if name == "href")


def test_published_figures_stand_beside_ours(tmp_path):
    html = page(
        tmp_path, [Run("full", published={"accuracy": 0.8498, "loss": 0.4151, "source": "a study"}), Run("lora")]
    )
    assert "84.98\u202f%" in html
    assert "0.4151" in html


def test_the_readme_tells_the_same_story(tmp_path):
    page(tmp_path, [*RUNS, Run("a|b <i>", 0, range(20)), Run("full", status="diverged")])
    text = StudyDir(tmp_path).readme.read_text(encoding="utf-8")
    assert text.startswith("# handmade\n\n- LoRA r8 has the highest test accuracy: 90.0 %")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.count(" | ") for line in table] == [9] * 4
    assert "a\\|b \\<i\\>" in text
    assert "full on minilm, seed 0 diverged: the loss is not finite" in text
    assert "`UNF008`" in text


def test_an_accuracy_stands_over_its_interval(tmp_path):
    study_dir = write_study(tmp_path, RUNS)
    html = write_report(study_dir).read_text(encoding="utf-8")
    accuracy = read_json(study_dir.comparison)["strategies"][0]["accuracy"]
    low, high = (f"{100 * end:.1f}" for end in accuracy["interval"])
    table = html[html.index('id="leaderboard"') :].split("</table>")[0]
    assert f"<br><small>{low} to {high}</small>" in table
    assert "over test items alone where there is one seed" in table
    assert f"90.0\u202f% ± 0.0 ({low} to {high}) |" in study_dir.readme.read_text(encoding="utf-8")


def test_baselines_stand_below_without_a_rank(tmp_path):
    data = dataset()
    failed = {"name": "broken", "encoder": "minilm", "status": "failed", "metrics": None, "seconds": None, "note": None}
    failed |= {"baseline_id": "broken", "failure": {"type": "EncoderError", "message": "cannot be loaded"}}
    published = {"accuracy": 0.5, "loss": None, "source": ""}
    study_dir = write_study(tmp_path, [*RUNS, Run("full", published=published)], data)
    majority = baseline("majority class", None, data, range(40))
    write_baselines(study_dir, [majority, baseline("frozen", "minilm", data, range(15)), (failed, majority[1])])
    html = write_report(study_dir).read_text(encoding="utf-8")
    table = html[html.index('id="leaderboard"') :].split("</table>")[0]
    first, second, third = table.split("<tr")[-3:]
    assert "33.3\u202f%" in first
    assert "75.0\u202f%" in second
    assert "EncoderError: cannot be loaded" in third
    assert [row.count("<td") + row.count("<th") for row in (first, second)] == [11, 11]
    assert all(">baseline<" in row for row in (first, second, third))
    assert "Made by hand." in html
    readme = study_dir.readme.read_text(encoding="utf-8").splitlines()
    lines = [line for line in readme if line.startswith("| baseline")]
    assert [line.count(" | ") for line in lines] == [9, 9], "the failed one has no figures to show"


def test_parts_of_the_test_split_that_may_be_easy(tmp_path):
    """Rows 0 to 5 are the mistakes of LoRA's seed 0, rows 1 to 6 those of seed 1."""
    data = dataset()
    votes = [[5, 0, 0] if gold == 0 else [1, 4, 0] for gold in data.splits["test"]["gold"].to_pylist()]
    test = data.splits["test"].append_column(VOTES, pa.array(votes, VOTES.type))
    study_dir = write_study(tmp_path, RUNS, replace(data, splits={**data.splits, "test": test}))
    write_baselines(study_dir, [baseline(HYPOTHESIS_ONLY, "minilm", data, range(12))])
    html = write_report(study_dir).read_text(encoding="utf-8")
    table = html[html.index("Where the test split is easy") :].split("</table>")[0]
    first = table.split("<tr")[3]
    assert "LoRA r8" in first
    assert re.findall(r"([\d.]+)\u202f%", first)[:2] == ["100.0", "50.0"], "right in 6 of the 12 hard examples"
    assert all(text in table for text in ("Hypothesis alone", "n = 12", "5 of 5", "JS"))
    failed = page(tmp_path / "failed", [Run("full", status="failed")])
    assert "Where the test split is easy" not in failed


def test_a_folder_that_is_no_study(tmp_path):
    with pytest.raises(StudyDirError):
        write_report(StudyDir(tmp_path))


def test_rendering_never_imports_torch(tmp_path):
    write_study(tmp_path, RUNS)
    script = (
        "import sys; from unfreeze.studydir import StudyDir; from unfreeze.report import write_report;"
        f"write_report(StudyDir.existing({str(tmp_path)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_numbers_have_few_digits_and_units():
    assert [percent(0.80493), percent(0.5, 2), percent(None)] == ["80.5\u202f%", "50.00\u202f%", "—"]
    assert [short(22_714_755), short(149_379), short(1152), short(7), short(0.25)] == [
        "22.7\u202fM",
        "149\u202fk",
        "1.15\u202fk",
        "7",
        "0.25",
    ]
    assert [size(300_000_000), size(512)] == ["286\u202fMiB", "512\u202fB"]
    assert [seconds(0.5), seconds(12.34), seconds(75), seconds(120), seconds(7500)] == [
        "0.5\u202fs",
        "12.3\u202fs",
        "1\u202fmin 15\u202fs",
        "2\u202fmin",
        "2\u202fh 5\u202fmin",
    ]
    assert count(1234567) == "1\u202f234\u202f567"

"""Figures as files, and the README that shows them."""

import re
import shutil
import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from study_factory import Run, write_study
from unfreeze.errors import MissingExtra, PictureError
from unfreeze.report import STORY, pictures, write_report
from unfreeze.report.content import Content
from unfreeze.report.sections import Sections
from unfreeze.studydir import StudyDir

RUNS = [Run("full", seed, range(6 + seed)) for seed in (0, 1)] + [Run("lora", 0, range(9))]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def study(tmp_path: Path) -> StudyDir:
    return write_study(tmp_path / "study", RUNS)


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kaleido", reason="kaleido is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    monkeypatch.setenv("BROWSER_PATH", CHROMIUM)


def links(study: StudyDir) -> list[str]:
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", study.readme.read_text(encoding="utf-8"))


def test_the_readme_shows_pictures_that_are_there(study, browser):
    write_report(study)
    found = links(study)
    assert [Path(link).stem for link in found] == [name for name in STORY if name != "memory"]  # it was not measured
    for link in found:
        assert (study.path / link).read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_the_first_choice_twice_as_fine_and_white(study, browser, tmp_path):
    figure = next(figure for figure in Sections(Content(study)).figures if figure.name == "trade-off")
    pictures.write_pictures({tmp_path / f"deep/{figure.name}.{kind}": figure for kind in ("png", "svg")})
    width, height = struct.unpack(">II", (tmp_path / "deep/trade-off.png").read_bytes()[16:24])
    assert (width, height) == (2 * pictures.WIDTH, 2 * figure.plot.layout.height)
    svg = (tmp_path / "deep/trade-off.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert svg.count("Train time with frozen prefix") == 1  # on the axis, not in a menu
    assert "fill: rgb(255, 255, 255); fill-opacity: 1" in svg
    assert len(figure.plot.layout.updatemenus) == 1  # the page keeps its own


def test_every_figure_can_be_asked_for(study, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr("unfreeze.report.write_pictures", asked.update)
    write_report(study, figures=tmp_path / "all")
    names = {figure.name for figure in Sections(Content(study)).figures}
    assert {path.name for path in asked if path.parent == tmp_path / "all"} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    }


def test_without_chromium_there_is_a_page_and_no_broken_link(study, tmp_path):
    pytest.importorskip("kaleido", reason="kaleido is not installed")
    write_report(study)
    assert links(study) == []
    assert not study.figures.exists()
    study.readme.unlink()
    with pytest.raises(PictureError, match="apt install chromium"):
        write_report(study, figures=tmp_path / "all")
    assert study.readme.is_file()


def test_a_browser_that_does_not_start_is_one_line(study, tmp_path, monkeypatch):
    pytest.importorskip("kaleido", reason="kaleido is not installed")
    monkeypatch.setenv("BROWSER_PATH", "/bin/false")
    with pytest.raises(PictureError) as raised:
        write_report(study, figures=tmp_path / "all")
    assert len(str(raised.value).splitlines()) == 1


def test_without_kaleido_the_extra_is_named(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    write_report(study)
    with pytest.raises(MissingExtra, match=r"unfreeze\[figures\]"):
        write_report(study, figures=tmp_path / "all")

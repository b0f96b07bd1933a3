"""The report: one self-contained page, rendered from a study folder alone."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from unfreeze.analysis.clusters import Projection
from unfreeze.errors import MissingExtra, PictureError
from unfreeze.report.content import Content
from unfreeze.report.figures import Figure
from unfreeze.report.formats import FILTERS
from unfreeze.report.pictures import write_pictures
from unfreeze.report.sections import Sections
from unfreeze.studydir import StudyDir, write_text

STORY = ("trade-off", "learning-curves", "confusion", "slice-errors", "memory")  # the figures that the README shows


def write_report(study_dir: StudyDir, projection: Projection = "pca", figures: Path | None = None) -> Path:
    """Render ``DIR/report.html`` and ``DIR/README.md`` from the files in the folder.

    The README shows the figures of :data:`STORY` where they can be drawn, which takes some four seconds, and none
    where they cannot.

    Args:
        study_dir: a study, all or some of whose runs have finished or failed.
        projection: how the map of mistakes is laid out; ``umap`` needs the extra of that name.
        figures: a folder for every figure of the page, as PNG and SVG.

    Returns:
        The page's path.

    Raises:
        StudyDirError: a file of the study is missing or damaged.
        MissingExtra: UMAP or ``figures`` are asked for and their extra is not installed.
        PictureError: ``figures`` are asked for and there is no Chromium that draws them.
    """
    content = Content(study_dir)
    sections = Sections(content, projection)
    study = {"content": content, "sections": sections}
    templates = _templates()
    page = templates.get_template("report.html.j2").render(
        **study,
        style=_asset("style.css"),
        plotly=Markup(get_plotlyjs()),
        scripts=[_asset(name) for name in ("script.js", "tables.js", "figures.js")],
    )
    write_text(study_dir.report, page)
    story = [figure for figure in sections.figures if figure.name in STORY]
    pictures = {study_dir.figures / f"{figure.name}.png": figure for figure in story}
    if figures is not None:
        pictures |= {
            figures / f"{figure.name}.{kind}": figure for figure in sections.figures for kind in ("png", "svg")
        }
    try:
        write_pictures(pictures)
    except (MissingExtra, PictureError):
        story = []  # never a link to a picture that is not there
        if figures is not None:
            raise
    finally:
        write_text(study_dir.readme, templates.get_template("readme.md.j2").render(**study, story=story))
    return study_dir.report


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("unfreeze.report", ""),
        # Texts of the data stand in the page; nothing in them may ever be read as markup.
        autoescape=lambda name: name is None or not name.endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, figure_json=_figure_json)
    return environment


def _figure_json(figure: Figure) -> Markup:
    """The plot and its table for the page's script; nothing in it can end the element it stands in."""
    return Markup('{"plot": %s, "csv": %s}') % (
        Markup(figure.plot.to_json().replace("<", "\\u003c")),
        htmlsafe_json_dumps(figure.csv()),
    )


def _asset(name: str) -> Markup:
    return Markup(resources.files("unfreeze.report").joinpath(name).read_text(encoding="utf-8"))

"""Figures as files for papers and Markdown, drawn by plotly's own exporter in a Chromium."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import plotly.graph_objects as go

from unfreeze.errors import MissingExtra, PictureError
from unfreeze.report.figures import Figure
from unfreeze.studydir import atomic_path

WIDTH = 900  # pixels: a page's text is about this wide, and legends of ten runs take three lines
SCALES = {".png": 2, ".svg": 1}


def write_pictures(pictures: Mapping[Path, Figure]) -> None:
    """Write figures as they first look on the page: white, and where there is a choice the first of it.

    One browser draws them all: 2.5 s to start it, 0.4 s a picture.

    Args:
        pictures: figure by file; the file's suffix, ``.png`` or ``.svg``, decides the format.

    Raises:
        MissingExtra: kaleido is not installed.
        PictureError: there is no Chromium, or it cannot draw.
    """
    try:
        import kaleido
        from kaleido.errors import ChromeNotFoundError
    except ImportError:
        raise MissingExtra("drawing figures as files", "figures") from None
    with TemporaryDirectory() as folder:
        drawn = {path: Path(folder) / f"{number}{path.suffix}" for number, path in enumerate(pictures)}
        jobs = [
            {"fig": _print(figure), "path": drawn[path], "opts": {"width": WIDTH, "scale": SCALES[path.suffix]}}
            for path, figure in pictures.items()
        ]
        try:
            # MathJax would be fetched from a network; a second tab made it slower on two cores (16 s for 13 s).
            kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False}, cancel_on_error=True)
        except ChromeNotFoundError:
            raise PictureError(
                "drawing figures as files needs Chromium or Chrome: install one (apt install chromium), "
                "or name it in BROWSER_PATH"
            ) from None
        except Exception as error:  # whatever stops a browser, a study's report is written without pictures
            why = " ".join(str(error.args[0] if error.args else "").split())
            raise PictureError(f"figures could not be drawn: {type(error).__name__} {why}".rstrip()) from error
        for path, file in drawn.items():
            with atomic_path(path) as temporary:
                temporary.write_bytes(file.read_bytes())


def _print(figure: Figure) -> go.Figure:
    """The plot without its menus, which a picture cannot open."""
    plot = go.Figure(figure.plot)
    plot.layout.updatemenus, plot.layout.template = (), go.layout.Template()
    plot.update_layout(paper_bgcolor="white", plot_bgcolor="white", font_family="Arial, sans-serif")
    return plot

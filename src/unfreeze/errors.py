"""Every error a user can meet. The library raises; only the command line turns one into a line and an exit code.

UnfreezeError            exit code 2: the user can mend it
├── StudyError           the study file says something that cannot be run
├── DataError            the data are missing, unreadable or unusable
├── EncoderError         the encoder is unknown, unreachable or of a family that is not supported
├── StudyDirError        the output folder belongs to another study, is in use, or is not a study
├── MissingExtra         an optional package is needed
├── PictureError         figures cannot be drawn as files: no Chromium, or one that does not start
└── RunError             exit code 1: a run failed while it was training
    └── Diverged         its loss stopped being a finite number
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnfreezeError(Exception):
    """Base of every error unfreeze raises on purpose: one line naming what, where and what to do."""

    exit_code = 2


class StudyError(UnfreezeError):
    """The study file says something that cannot be run; ``problems`` holds one line for each fault."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DataError(UnfreezeError):
    """The data are missing, unreadable or unusable."""


class EncoderError(UnfreezeError):
    """The encoder is unknown, unreachable or of a family that is not supported."""


class StudyDirError(UnfreezeError):
    """The output folder belongs to another study, is in use, or is not a study."""


class MissingExtra(UnfreezeError):
    """An optional package is needed; the message names the extra that brings it."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional package: pip install 'unfreeze[{extra}]'")


class PictureError(UnfreezeError):
    """Figures cannot be drawn as files: there is no Chromium, or it does not start."""


class RunError(UnfreezeError):
    """A run failed while it was training; the other runs of the grid go on."""

    exit_code = 1


class Diverged(RunError):
    """The training loss stopped being a finite number."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to ``word``, or the list where none is close."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(sorted(known))}"

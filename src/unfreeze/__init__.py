"""Which fine-tuning strategy should I use for my text classifier, and what do I give up?

``unfreeze.run_study("study.yaml", "out")`` trains a grid of encoders × strategies × seeds, compares the runs and
writes the report. Names are loaded when they are first used: importing the package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unfreeze.datasets import load_dataset
    from unfreeze.errors import UnfreezeError
    from unfreeze.grid.predictor import Predictor
    from unfreeze.grid.runner import StudyResult, run_study
    from unfreeze.report import write_report
    from unfreeze.study import Study, load_study

_HOME = {
    "Predictor": "unfreeze.grid.predictor",
    "Study": "unfreeze.study",
    "StudyResult": "unfreeze.grid.runner",
    "UnfreezeError": "unfreeze.errors",
    "load_dataset": "unfreeze.datasets",
    "load_study": "unfreeze.study",
    "run_study": "unfreeze.grid.runner",
    "write_report": "unfreeze.report",
}

__all__ = [
    "Predictor",
    "Study",
    "StudyResult",
    "UnfreezeError",
    "load_dataset",
    "load_study",
    "run_study",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'unfreeze' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__

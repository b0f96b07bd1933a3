"""The report's figures: each function takes plain tables, works alone and gives back its numbers."""

from unfreeze.report.figures.answer import trade_off
from unfreeze.report.figures.compute import costs, memory_parts, time_parts
from unfreeze.report.figures.data import label_balance, text_lengths
from unfreeze.report.figures.dynamics import data_maps
from unfreeze.report.figures.figure import Figure
from unfreeze.report.figures.map import mistake_map
from unfreeze.report.figures.mistakes import (
    mistake_labels,
    mistake_overlap,
    mistake_sets,
    probability_gaps,
    slice_errors,
)
from unfreeze.report.figures.runs import calibration, confusion, learning_curves, parameters
from unfreeze.report.figures.words import words_in_mistakes

__all__ = [
    "Figure",
    "calibration",
    "confusion",
    "costs",
    "data_maps",
    "label_balance",
    "learning_curves",
    "memory_parts",
    "mistake_labels",
    "mistake_map",
    "mistake_overlap",
    "mistake_sets",
    "parameters",
    "probability_gaps",
    "slice_errors",
    "text_lengths",
    "time_parts",
    "trade_off",
    "words_in_mistakes",
]

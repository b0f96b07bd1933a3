"""A finished run, ready to classify texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import softmax

from unfreeze.datasets.files import choose_texts
from unfreeze.datasets.readers import read_path
from unfreeze.datasets.source import no_column
from unfreeze.errors import DataError, StudyDirError, StudyError
from unfreeze.study import Columns, RunSpec, load_study
from unfreeze.studydir import RunDir, StudyDir, read_json


class Predictor:
    """The trained classifier of one run.

    Args:
        run_dir: ``DIR/runs/<run_id>`` of a finished run.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        StudyDirError: the folder is not a finished run.
        UnfreezeError: its encoder or checkpoint cannot be had.
    """

    def __init__(self, run_dir: str | Path, device: str = "auto") -> None:
        run = RunDir(Path(run_dir))
        if not run.result.is_file():
            raise StudyDirError(f"{run.path}: not a finished run (no result.json); give DIR/runs/<run_id> of one")
        from unfreeze.grid.run import load_classifier
        from unfreeze.training.device import choose_compute

        study_yaml = StudyDir(run.path.parent.parent).study_yaml
        #: The columns that the study's own data had, which further files probably have too.
        self.columns = load_study(study_yaml).data.columns if study_yaml.is_file() else Columns()
        self.spec = RunSpec.model_validate(read_json(run.spec))
        self.compute = choose_compute(device, read_json(run.result)["environment"]["precision"])
        self.model: Any = load_classifier(run, self.spec, self.compute)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the probabilities' columns."""
        return self.spec.labels

    def logits(self, premises: Sequence[str], hypotheses: Sequence[str] | None = None) -> np.ndarray:
        """Float32 logits of shape (examples, labels).

        Args:
            premises: the first texts, or the only ones.
            hypotheses: the second texts, where the classifier was trained on pairs.

        Raises:
            StudyError: a text is missing, empty or one too many.
        """
        from unfreeze.training.batching import tokenize
        from unfreeze.training.encoder import load_tokenizer
        from unfreeze.training.predict import predict

        if self.spec.is_pair == (hypotheses is None):
            wants = (
                "pairs: give a hypothesis for each premise" if self.spec.is_pair else "single texts: give no hypotheses"
            )
            raise StudyError(f"this run classifies {wants}")
        texts = [premises] if hypotheses is None else [premises, hypotheses]
        if any(len(column) != len(premises) for column in texts):
            raise StudyError(f"{len(premises)} premises and {len(texts[-1])} hypotheses: give one for each")
        for row, parts in enumerate(zip(*texts, strict=True), start=1):
            if not all(part.strip() for part in parts):
                raise StudyError(f"row {row}: an empty text cannot be classified")
        if not premises:
            return np.empty((0, len(self.labels)), np.float32)
        second = pa.nulls(len(premises), pa.string()) if hypotheses is None else pa.array(hypotheses, pa.string())
        table = pa.table({"premise": pa.array(premises, pa.string()), "hypothesis": second})
        return predict(
            self.model, tokenize(table, load_tokenizer(self.spec.encoder), self.spec.max_length), self.compute
        )

    def probabilities(self, premises: Sequence[str], hypotheses: Sequence[str] | None = None) -> np.ndarray:
        """Softmax of :meth:`logits`, float32 of shape (examples, labels)."""
        found: np.ndarray = softmax(self.logits(premises, hypotheses), axis=1)
        return found


def predict_file(predictor: Predictor, path: Path, columns: Columns) -> pa.Table:
    """Classify a CSV, TSV, JSONL or Parquet file.

    Args:
        predictor: a trained run.
        path: the file.
        columns: which columns hold the texts; where it names none, those with the usual names.

    Returns:
        The file's readable rows as strings, with ``predicted`` and a ``p_<label>`` column for each label. A row with
        an empty text has nulls there.

    Raises:
        DataError: the file cannot be read, or has no column of texts.
    """
    rows = read_path(path)
    there = rows.table.column_names
    chosen = [column for column in choose_texts(str(path), there, columns) if column is not None]
    for column in chosen:
        if column not in there:
            raise DataError(f"{path}: {no_column('text', column, there)}")
    texts = [rows.table[column].to_pylist() for column in chosen]
    usable = [i for i, parts in enumerate(zip(*texts, strict=True)) if all(part and part.strip() for part in parts)]
    found = predictor.probabilities(*([column[i] for i in usable] for column in texts))
    spread = np.full((len(rows.table), len(predictor.labels)), np.nan)
    spread[usable] = found
    predicted: list[str | None] = [None] * len(rows.table)
    for i, best in zip(usable, found.argmax(axis=1), strict=True):
        predicted[i] = predictor.labels[best]
    table = rows.table.append_column("predicted", pa.array(predicted, pa.string()))
    for index, label in enumerate(predictor.labels):
        table = table.append_column(f"p_{label}", pa.array(spread[:, index], from_pandas=True))
    return table

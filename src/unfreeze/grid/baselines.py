"""Baselines of a study: planned, made as one job for each encoder, and collected."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from unfreeze.analysis.baselines import (
    FROZEN,
    HYPOTHESIS_ONLY,
    MAJORITY,
    Features,
    fit_logistic_regression,
    majority_logits,
    model_logits,
    pair_features,
)
from unfreeze.analysis.metrics import evaluate
from unfreeze.datasets.splits import divide
from unfreeze.errors import RunError
from unfreeze.grid.executors import write_failure
from unfreeze.grid.plan import PlannedRun
from unfreeze.records import SPLITS, Dataset, predictions_table
from unfreeze.study import RunSpec, Study, slug
from unfreeze.studydir import RunDir, StudyDir, read_json, write_json, write_table

Row = dict[str, Any]
Report = Callable[[Row], None]

# With SNLI's 9,842 test pairs and 2,000 of validation, MiniLM encodes as many in under three minutes on one core, and
# all eight regressions take 17 s.
MOST_TRAIN_ROWS = 20_000


def plan_baselines(study: Study, runs: Sequence[PlannedRun]) -> list[Row]:
    """Name, encoder and id of every baseline; none where the study leaves them out or no run is known yet."""
    if not (study.baselines and runs):
        return []
    specs = _one_each(runs)
    names = (FROZEN, HYPOTHESIS_ONLY) if runs[0].spec.is_pair else (FROZEN,)
    planned: list[Row] = [{"baseline_id": slug(MAJORITY), "name": MAJORITY, "encoder": None}]
    for spec in specs:
        planned += [{"baseline_id": _baseline_id(name, spec), "name": name, "encoder": spec.encoder} for name in names]
    return planned


def baseline_jobs(study: Study, study_dir: StudyDir, runs: Sequence[PlannedRun]) -> Iterator[Row]:
    """One job for each encoder with a baseline that is not there yet."""
    planned = plan_baselines(study, runs)
    for number, spec in enumerate(_one_each(runs)):
        mine = [row for row in planned if row["encoder"] == spec.encoder or (row["encoder"] is None and number == 0)]
        missing = [row for row in mine if not study_dir.baseline(row["baseline_id"]).result.is_file()]
        if missing:
            common = {"spec": spec.model_dump(mode="json"), "device": study.device, "missing": missing}
            yield {"id": f"baselines of {spec.encoder}", "kind": "baselines", "needs": [], **common}


def _one_each(runs: Sequence[PlannedRun]) -> list[RunSpec]:
    """The first run's spec of each encoder."""
    return list({run.spec.encoder: run.spec for run in reversed(runs)}.values())[::-1]


def _baseline_id(name: str, spec: RunSpec) -> str:
    parts = [spec.encoder, spec.data_fingerprint, spec.max_length]
    return f"{slug(name)}--{slug(spec.encoder)}--{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]}"


def make_baselines(study_dir: StudyDir, spec: RunSpec, missing: Sequence[Row], *, device: str, report: Report) -> None:
    """Make what is missing of one encoder's baselines; a failure is written beside them instead of raised.

    Args:
        study_dir: the study's folder.
        spec: any run of the encoder: its data, length and precision are what counts.
        missing: rows of :func:`plan_baselines`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        report: told what was reached, or why not.
    """
    try:
        _make(study_dir, spec, {row["name"]: row for row in missing}, device)
    except Exception as error:
        note_failure(study_dir, missing, error)
    for row in missing:
        baseline = study_dir.baseline(row["baseline_id"])
        if baseline.result.is_file():
            outcome = f"test accuracy {100 * read_json(baseline.result)['metrics']['test']['accuracy']:.2f} %"
        else:
            outcome = f"failed: {read_json(baseline.failure)['message']}"
        on = f" of {slug(row['encoder'])}" if row["encoder"] else ""
        report({"kind": "note", "message": f"baseline {row['name']}{on}: {outcome}"})


def note_failure(study_dir: StudyDir, missing: Sequence[Row], error: Exception) -> None:
    """Write why baselines are not there; the study goes on, and its next start tries them again."""
    for row in missing:
        baseline = study_dir.baseline(row["baseline_id"])
        if not baseline.result.is_file():
            write_failure(baseline, error, step=None)


def note_death(study_dir: StudyDir, job: Row, code: int) -> None:
    """A process that the system killed could not write its own failure."""
    if code:
        note_failure(study_dir, job["missing"], RunError(f"the process ended with code {code}"))


def _make(study_dir: StudyDir, spec: RunSpec, missing: dict[str, Row], device: str) -> None:
    dataset = study_dir.read_dataset()
    gold = {split: dataset.splits[split]["gold"].to_numpy().astype(np.int64) for split in SPLITS}
    labels = len(dataset.labels)
    if row := missing.pop(MAJORITY, None):
        logits = {split: majority_logits(gold["train"], labels, len(gold[split])) for split in SPLITS[1:]}
        note = f"Always {dataset.labels[np.bincount(gold['train']).argmax()]}, the most frequent class of training."
        _keep(study_dir.baseline(row["baseline_id"]), dataset, logits, row, None, note)
    if not missing:
        return
    started = time.perf_counter()
    chosen, about = _sample(dataset)
    embeddings = _embeddings(dataset, chosen, spec, device)
    embed_seconds = time.perf_counter() - started
    for name, row in missing.items():
        started = time.perf_counter()
        features = {split: _features(embeddings[split], name) for split in SPLITS}
        everything = slice(None)
        model, strength = fit_logistic_regression(
            features["train"](everything), gold["train"][chosen], features["validation"](everything), gold["validation"]
        )
        logits = {split: model_logits(model, features[split], len(gold[split]), labels) for split in SPLITS[1:]}
        seconds = embed_seconds + time.perf_counter() - started
        note = f"Logistic regression (C = {strength:g}) on {_read(name, dataset)}; fitted on {about}."
        _keep(study_dir.baseline(row["baseline_id"]), dataset, logits, row, seconds, note)


def _sample(dataset: Dataset) -> tuple[np.ndarray, str]:
    """Indices of the training rows to fit on, and what to say of them."""
    train = dataset.splits["train"]
    rows = len(train)
    if rows <= MOST_TRAIN_ROWS:
        return np.arange(rows), f"all {rows:,} training examples"
    numbers = pa.table({"guid": train["guid"], "label": train["gold"].cast(pa.string()), "index": np.arange(rows)})
    sample, _ = divide(numbers, [MOST_TRAIN_ROWS], seed=0)
    return sample["index"].to_numpy(), f"a stratified {MOST_TRAIN_ROWS:,} of {rows:,} training examples"


def _embeddings(dataset: Dataset, chosen: np.ndarray, spec: RunSpec, device: str) -> dict[str, list[np.ndarray]]:
    """For each split the embeddings of its texts, premise first; a text that stands there twice is encoded once."""
    from unfreeze.training.device import choose_compute
    from unfreeze.training.embed import embed

    columns = ("premise", "hypothesis") if dataset.is_pair else ("premise",)
    splits = {split: dataset.splits[split].select(columns) for split in SPLITS}
    splits["train"] = splits["train"].take(chosen)
    texts = [splits[split][column] for split in SPLITS for column in columns]
    coded = pa.chunked_array([chunk for text in texts for chunk in text.chunks], pa.string()).combine_chunks()
    encoded = coded.dictionary_encode()
    compute = choose_compute(device, spec.recipe.precision)
    states = embed(spec.encoder, encoded.dictionary.to_pylist(), spec.max_length, compute)
    ends = np.cumsum([len(text) for text in texts])[:-1]
    parts = iter(np.split(encoded.indices.to_numpy(), ends))
    return {split: [states[next(parts)] for _ in columns] for split in SPLITS}


def _features(texts: list[np.ndarray], name: str) -> Features:
    if name == HYPOTHESIS_ONLY or len(texts) == 1:
        return lambda rows: texts[-1][rows]
    return lambda rows: pair_features(texts[0][rows], texts[1][rows])


def _read(name: str, dataset: Dataset) -> str:
    """What a baseline is given of an example."""
    if name == HYPOTHESIS_ONLY:
        return "the same encoder's embedding, frozen, of the hypothesis alone: it sees one text"
    which = "premise and hypothesis, each encoded alone" if dataset.is_pair else "the text"
    return f"the encoder's embeddings, frozen, of {which}"


def _keep(
    baseline: RunDir, dataset: Dataset, logits: dict[str, np.ndarray], row: Row, seconds: float | None, note: str
) -> None:
    """Write predictions, then the result, whose existence means that the baseline is there."""
    metrics = {}
    for split, values in logits.items():
        examples = dataset.splits[split]
        table = predictions_table(examples["guid"], examples["gold"], values)
        write_table(baseline.predictions(split), table)
        metrics[split] = evaluate(table, dataset.labels)
    baseline.failure.unlink(missing_ok=True)
    write_json(baseline.result, {**row, "metrics": metrics, "seconds": seconds, "note": note})


def collect_baselines(study_dir: StudyDir) -> list[Row]:
    """Read every baseline of the study and write ``baselines.json``; one row for each that was tried."""
    rows = []
    for planned in read_json(study_dir.resolved).get("baselines", []):
        baseline = study_dir.baseline(planned["baseline_id"])
        if baseline.result.is_file():
            rows.append({**read_json(baseline.result), "status": "finished", "failure": None})
        elif baseline.failure.is_file():
            failure = {key: read_json(baseline.failure)[key] for key in ("type", "message")}
            nothing = dict.fromkeys(("metrics", "seconds", "note"))
            rows.append({**planned, **nothing, "status": "failed", "failure": failure})
    write_json(study_dir.baselines_json, rows)
    return rows

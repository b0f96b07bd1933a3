"""Finished runs on further sets: predicted from their checkpoints, so that a new set trains nothing again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from unfreeze.analysis.compare import compare
from unfreeze.analysis.metrics import evaluate
from unfreeze.grid.plan import PlannedRun
from unfreeze.records import EvaluationSet, predictions_table
from unfreeze.study import RunSpec, Study
from unfreeze.studydir import RunDir, StudyDir, read_json, read_table, write_json, write_table

Row = dict[str, Any]


def evaluation_jobs(
    study: Study, study_dir: StudyDir, runs: Sequence[PlannedRun], sets: Sequence[EvaluationSet]
) -> Iterator[Row]:
    """One job for each run with a set that it has not answered yet; a job does nothing for a run that failed."""
    known = {found.name: {"fingerprint": found.fingerprint} for found in sets}
    for run in runs:
        done = evaluations(study_dir.run(run.run_id), known)
        if missing := [name for name in known if name not in done]:
            spec, job_id = run.spec.model_dump(mode="json"), f"evaluate {run.run_id}"
            yield {
                **{"id": job_id, "kind": "evaluate", "needs": [run.run_id]},
                **{"spec": spec, "device": study.device, "sets": missing},
            }


def evaluations(run: RunDir, sets: Mapping[str, Row]) -> Row:
    """A run's metrics on each set it has answered.

    Args:
        run: its folder.
        sets: by name, with the ``fingerprint`` of what the set holds now: answers to anything else do not count.
    """
    found = {name: read_json(run.evaluation(name)) for name in sets if run.evaluation(name).is_file()}
    return {name: row["metrics"] for name, row in found.items() if row["fingerprint"] == sets[name]["fingerprint"]}


def evaluate_run(
    study_dir: StudyDir, spec: RunSpec, names: Sequence[str], *, device: str, report: Callable[[Row], None]
) -> None:
    """Answer sets with a finished run and keep predictions and metrics; a failure is reported, not raised.

    Args:
        study_dir: the study's folder.
        spec: the run's.
        names: of the sets.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        report: told why a set could not be answered.
    """
    run = study_dir.run(spec.run_id)
    if not run.result.is_file():
        return
    try:
        _answer(run, spec, [study_dir.read_evaluation_set(name) for name in names], device)
    except Exception as error:  # the run itself is whole, and the next start tries again
        report({"kind": "note", "message": f"{spec.run_id} on {', '.join(names)}: failed: {error}"})


def _answer(run: RunDir, spec: RunSpec, sets: Sequence[EvaluationSet], device: str) -> None:
    from unfreeze.grid.run import load_classifier
    from unfreeze.training.batching import tokenize
    from unfreeze.training.device import choose_compute
    from unfreeze.training.encoder import load_tokenizer
    from unfreeze.training.predict import predict

    compute = choose_compute(device, spec.recipe.precision)
    model = load_classifier(run, spec, compute)
    for found in sets:
        tokens = tokenize(found.examples, load_tokenizer(spec.encoder), spec.max_length)
        logits = merge_labels(predict(model, tokens, compute), found.merged)
        table = predictions_table(found.examples["guid"], found.examples["gold"], logits)
        run.evaluation(found.name).unlink(missing_ok=True)  # of a set that has changed: it must not stand beside these
        write_table(run.predictions(found.name), table)
        scores = evaluate(table, found.labels)
        metrics = {key: scores[key] for key in ("accuracy", "macro_f1", "loss")}
        if len(found.labels) < len(spec.labels):
            metrics["loss"] = None  # that of an easier question, which no other loss compares with
        write_json(run.evaluation(found.name), {"fingerprint": found.fingerprint, "metrics": metrics})


def merge_labels(logits: np.ndarray, merged: Sequence[Sequence[int]]) -> np.ndarray:
    """Log-probabilities of labels whose probability is the sum of those they are made of.

    Args:
        logits: shape (examples, labels of the run).
        merged: for each label of the set, indices of the run's.

    Returns:
        Float32, shape (examples, labels of the set).
    """
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    columns = [logsumexp(log_probabilities[:, list(parts)], axis=1) for parts in merged]
    return np.stack(columns, axis=1).astype(np.float32)


def compare_elsewhere(study_dir: StudyDir, rows: Sequence[Row], equivalence: float) -> dict[str, Row]:
    """The comparison of strategies on each further set that some run has answered, without a verdict.

    Args:
        study_dir: the study's folder.
        rows: of ``results.json``.
        equivalence: the study's.
    """
    found = {}
    for name in read_json(study_dir.resolved).get("evaluate_on", {}):
        done = [row for row in rows if row["status"] == "finished" and name in row["metrics"]["evaluate_on"]]
        if not done:
            continue
        kept = study_dir.read_evaluation_set(name)
        tables = {row["run_id"]: read_table(study_dir.run(row["run_id"]).predictions(name)) for row in done}
        here = [{**row, "metrics": {"test": evaluate(tables[row["run_id"]], kept.labels)}} for row in done]
        comparison = compare(here, tables.__getitem__, kept.examples["group"].to_numpy(), equivalence)
        found[name] = {key: value for key, value in comparison.items() if key != "verdict"}
    return found

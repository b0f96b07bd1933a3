"""Every path of a study on disk. Writes are atomic, so that a killed process leaves a whole file or none."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
from filelock import FileLock, Timeout

from unfreeze.errors import StudyDirError
from unfreeze.records import DROPPED, SPLITS, Dataset, EvaluationSet


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide results from the rest of a team
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; a number that JSON cannot hold (NaN, infinity) is refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StudyDirError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyDirError(f"{path}: cannot be read ({error})") from None


def write_table(path: Path, table: pa.Table) -> None:
    """Write an Arrow IPC file (zstd) atomically."""
    with atomic_path(path) as temporary:
        pyarrow.feather.write_feather(table, str(temporary), compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read an Arrow IPC file.

    Raises:
        StudyDirError: the file is missing or damaged.
    """
    try:
        return pyarrow.feather.read_table(str(path))
    except (OSError, pa.ArrowException) as error:
        raise StudyDirError(f"{path}: cannot be read ({error})") from None


@dataclass(frozen=True)
class RunDir:
    """One run's folder, ``runs/<run_id>/``."""

    path: Path

    @property
    def spec(self) -> Path:
        """The :class:`~unfreeze.study.RunSpec` as JSON."""
        return self.path / "spec.json"

    @property
    def history(self) -> Path:
        """One JSON line for each logged step and each evaluation."""
        return self.path / "history.jsonl"

    @property
    def dynamics(self) -> Path:
        """A :data:`~unfreeze.records.DYNAMICS` table, where the run recorded one."""
        return self.path / "dynamics.arrow"

    @property
    def checkpoint(self) -> Path:
        """The folder with what was trained."""
        return self.path / "checkpoint"

    @property
    def resume(self) -> Path:
        """Optimiser, order and random state of an unfinished run; gone when it has finished."""
        return self.path / "checkpoint" / "resume.pt"

    @property
    def failure(self) -> Path:
        """Type, message and step of a run that failed."""
        return self.path / "failure.json"

    @property
    def result(self) -> Path:
        """Written last: its existence means finished."""
        return self.path / "result.json"

    def predictions(self, split: str) -> Path:
        """A :data:`~unfreeze.records.PREDICTIONS` table of a split or a further set."""
        return self.path / "predictions" / f"{split}.arrow"

    @property
    def mistakes(self) -> Path:
        """What :func:`~unfreeze.records.mistakes_table` made of its test mistakes."""
        return self.path / "predictions" / "mistakes.arrow"

    def evaluation(self, name: str) -> Path:
        """How the run does on a further set; written after its predictions."""
        return self.path / "evaluate_on" / f"{name}.json"


@dataclass(frozen=True)
class StudyDir:
    """A study's folder."""

    path: Path

    @classmethod
    def existing(cls, path: str | Path) -> StudyDir:
        """Open a folder that a study was run in.

        Raises:
            StudyDirError: it is not one.
        """
        study_dir = cls(Path(path))
        if not study_dir.resolved.is_file():
            how = f"'unfreeze run STUDY -o {path}' makes one"
            raise StudyDirError(f"{path}: not a study folder (no resolved.json); {how}")
        return study_dir

    @property
    def study_yaml(self) -> Path:
        """The study with its overrides applied, as it was last run here."""
        return self.path / "study.yaml"

    @property
    def resolved(self) -> Path:
        """Every RunSpec, versions, commit, machine and the data's fingerprint."""
        return self.path / "resolved.json"

    @property
    def tuning(self) -> Path:
        """What was tried before the grid, and what was chosen; only where a study leaves something to validation."""
        return self.path / "tuning.json"

    @property
    def budgets(self) -> Path:
        """At what strategies are compared, and what was measured for it."""
        return self.path / "budgets.json"

    @property
    def tuning_journal(self) -> Path:
        """What Optuna was told of trials."""
        return self.path / "tuning" / "optuna.journal"

    @property
    def results_json(self) -> Path:
        """One object for each run."""
        return self.path / "results.json"

    @property
    def results_csv(self) -> Path:
        """The same, one row for each run."""
        return self.path / "results.csv"

    @property
    def baselines_json(self) -> Path:
        """One object for each baseline, in the order in which tables show them."""
        return self.path / "baselines.json"

    @property
    def comparison(self) -> Path:
        """Pairwise tests, intervals, ranking and verdict."""
        return self.path / "comparison.json"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def readme(self) -> Path:
        """The report's story as Markdown, which a repository host renders."""
        return self.path / "README.md"

    @property
    def figures(self) -> Path:
        """Pictures that the README shows."""
        return self.path / "figures"

    @property
    def explore(self) -> Path:
        """What ``unfreeze explore`` shows, as JSON."""
        return self.path / "data" / "explore.json"

    @property
    def cache(self) -> Path:
        """Tokens and frozen-prefix states; may be deleted at any time that no run is going on."""
        return self.path / "cache"

    @property
    def _dataset(self) -> Path:
        return self.path / "data" / "dataset.json"

    def run(self, run_id: str) -> RunDir:
        """The folder of one run, which may not exist yet."""
        return RunDir(self.path / "runs" / run_id)

    def trial(self, run_id: str) -> RunDir:
        """The folder of one trial: a run's, without anything of the test split."""
        return RunDir(self.path / "tuning" / run_id)

    def baseline(self, baseline_id: str) -> RunDir:
        """The folder of one baseline: a run's, without a spec, a history or a checkpoint."""
        return RunDir(self.path / "baselines" / baseline_id)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process.

        Raises:
            StudyDirError: another process holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            what = "another unfreeze is running here; wait for it or choose another folder"
            raise StudyDirError(f"{self.path}: {what}") from None
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise StudyDirError(f"{self.path}: cannot be written ({error.strerror}); choose another folder") from None

    def write_dataset(self, dataset: Dataset) -> None:
        """Keep the split data: every run and the report read this copy, never the source again."""
        for split in SPLITS:
            write_table(self.path / "data" / f"{split}.arrow", dataset.splits[split])
        with atomic_path(self.path / "data" / "dropped.csv") as temporary:
            pyarrow.csv.write_csv(dataset.dropped, str(temporary))
        write_json(self._dataset, {key: getattr(dataset, key) for key in ("name", "labels", "notes", "fingerprint")})

    def read_dataset(self) -> Dataset:
        """The split data that :meth:`write_dataset` kept.

        Raises:
            StudyDirError: they are missing or damaged.
        """
        about = read_json(self._dataset)
        splits = {split: read_table(self.path / "data" / f"{split}.arrow") for split in SPLITS}
        convert = pyarrow.csv.ConvertOptions(column_types=DROPPED)
        parse = pyarrow.csv.ParseOptions(newlines_in_values=True)  # a reason quotes the label
        dropped = pyarrow.csv.read_csv(
            str(self.path / "data" / "dropped.csv"), parse_options=parse, convert_options=convert
        )
        return Dataset(about["name"], tuple(about["labels"]), splits, dropped, tuple(about["notes"]))

    def write_evaluation_set(self, found: EvaluationSet) -> None:
        """Keep a further set: every run and the report read this copy."""
        about = json.dumps({"labels": found.labels, "merged": found.merged})
        write_table(self._evaluation_set(found.name), found.examples.replace_schema_metadata({"about": about}))

    def read_evaluation_set(self, name: str) -> EvaluationSet:
        """A set that :meth:`write_evaluation_set` kept.

        Raises:
            StudyDirError: it is missing or damaged.
        """
        table = read_table(self._evaluation_set(name))
        about = json.loads(table.schema.metadata[b"about"])
        labels, examples = tuple(about["labels"]), table.replace_schema_metadata()
        return EvaluationSet(name, labels, tuple(map(tuple, about["merged"])), examples)

    def _evaluation_set(self, name: str) -> Path:
        return self.path / "data" / "evaluate_on" / f"{name}.arrow"

    def data_fingerprint(self) -> str | None:
        """Fingerprint of the data kept here, or None where there are none yet."""
        return read_json(self._dataset)["fingerprint"] if self._dataset.is_file() else None

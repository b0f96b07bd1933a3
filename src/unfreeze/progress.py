"""A grid's progress, as a live display or, without a terminal, as plain lines."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from unfreeze.display import run_name, trial_name
from unfreeze.report.formats import percent, seconds

Row = dict[str, Any]


class Watcher:
    """Shows a grid's progress; call it with each row that ``run_study`` reports."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.names: dict[str, str] = {}
        self.done = self.started = self.total = 0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self.grid = self.bar.add_task("runs", total=None, facts="")
        self.runs: dict[str, TaskID] = {}

    def __enter__(self) -> Watcher:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, row: Row) -> None:
        """Show one row."""
        getattr(self, f"_{row['kind']}")(row)

    def _grid(self, row: Row) -> None:
        self.names = {run["run_id"]: run_name(run) for run in row["runs"]}
        self.done, self.started, self.total = 0, 0, len(row["pending"])
        finished = len(row["runs"]) - self.total
        already = f", {finished} finished before" if finished else ""
        self.console.print(f"{len(row['runs'])} runs{already}")
        self.bar.update(self.grid, total=self.total, completed=0)

    def _trials(self, row: Row) -> None:
        self.names |= {trial["run_id"]: f"Trial of {trial_name(trial)}" for trial in row["trials"]}
        self.total += len(row["trials"])
        self.bar.update(self.grid, total=self.total)

    def _trial(self, row: Row) -> None:
        self.done += 1
        self.bar.update(self.grid, completed=self.done)
        self._remove(row["run_id"])
        if row["status"] != "pending":  # a trial that halving looks at goes on, or does not
            found = f"validation accuracy {percent(row['accuracy'], 2)} in {seconds(row['seconds'])}"
            said = found if row["status"] == "finished" else row["status"]
            self.console.print(f"{self.names[row['run_id']]}: {said}", highlight=False, markup=False)

    def _remove(self, run_id: str) -> None:
        if run_id in self.runs:  # a run that died at once never said that it had started
            self.bar.remove_task(self.runs.pop(run_id))

    def _note(self, row: Row) -> None:
        self.console.print(f"[dim]{row['message']}[/]", highlight=False)

    def _started(self, row: Row) -> None:
        if name := self.names.get(row["job"]):
            self.started += 1
            self.runs[row["job"]] = self.bar.add_task(name, total=None, facts="")
            if not self.console.is_terminal:
                self.console.print(f"[{self.started}/{self.total}] {name}", highlight=False, markup=False)

    def _step(self, row: Row) -> None:
        rate = row["pairs"] / max(row["seconds"], 1e-3)
        facts = f"epoch {row['epoch'] + 1}  loss {row['loss']:.3f}  {rate:.0f} pairs/s"
        self.bar.update(self.runs[row["run_id"]], completed=row["step"], total=row["steps"], facts=facts)

    def _evaluation(self, row: Row) -> None:
        if not self.console.is_terminal:
            found = f"validation loss {row['loss']:.4f}, accuracy {100 * row['accuracy']:.2f} %"
            text = f"  {self.names[row['run_id']]}, epoch {row['epoch']}: {found}"
            self.console.print(text, highlight=False)

    def _finished(self, row: Row) -> None:
        self.done += 1
        self.bar.update(self.grid, completed=self.done)
        self._remove(row["run_id"])
        name = self.names[row["run_id"]]
        if row["status"] == "finished":
            cost = row["cost"]
            accuracy = percent(row["metrics"]["test"]["accuracy"], 2)
            facts = f"trained in {seconds(cost['train_seconds'])}, {cost['pairs_per_second']:.0f} pairs/s"
            self.console.print(f"[green]✓[/] {name}: test accuracy {accuracy}, {facts}", highlight=False)
        else:
            self.console.print(f"[red]✗[/] {name}: {row['status']}: {row['failure']['message']}", highlight=False)

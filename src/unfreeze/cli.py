"""The command line: typer verbs, and the only place that turns an error into a line and an exit code."""

from __future__ import annotations

import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from unfreeze.errors import StudyDirError, StudyError, UnfreezeError


class Verbs(TyperGroup):
    """The verbs; typer itself ends on Ctrl-C without a word of what is kept."""

    def invoke(self, ctx: Any) -> Any:
        """Do what was asked, and say how to go on where it was interrupted."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("unfreeze: stopped; the same command goes on from the last whole epoch", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Verbs,
    help="Which fine-tuning strategy should I use for my text classifier, and what do I give up?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a preset.")]
DirArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a study.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, as in recipe.epochs=1; repeatable."),
]


def main() -> None:
    """Run the command line; errors become one line each on standard error and an exit code."""
    try:
        app()
    except UnfreezeError as error:
        for line in str(error).splitlines():
            print(f"unfreeze: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe has gone, as in `unfreeze presets | head -1`
        with suppress(OSError):
            sys.stdout.close()
        sys.exit(141)
    except OSError as error:  # a full disk, a file or folder of somebody else's
        where = f"{error.filename}: " if error.filename else ""
        print(f"unfreeze: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(UnfreezeError.exit_code)


@app.command()
def run(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: the study's name.")] = None,
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side. Default: what cores and memory allow.")
    ] = None,
) -> None:
    """Train what is missing of a grid, compare its runs and write the report."""
    from unfreeze.display import show_leaderboard
    from unfreeze.grid.runner import run_study
    from unfreeze.progress import Watcher
    from unfreeze.study import load_study
    from unfreeze.studydir import StudyDir, read_json

    loaded = load_study(study, overrides or [])
    with Watcher(console) as watch:
        result = run_study(loaded, out or Path(loaded.name), workers=workers, watch=watch)
    notes = read_json(StudyDir(result.path).resolved)["notes"]
    show_leaderboard(console, result.rows, notes, result.baselines)
    for sentence in result.comparison["verdict"]:
        console.print(sentence, highlight=False)
    console.print(f"Report: {result.report}", highlight=False, soft_wrap=True)
    if any(row["status"] != "finished" for row in result.rows):
        raise typer.Exit(1)


@app.command()
def plan(study: StudyArgument, overrides: Overrides = None) -> None:
    """Show the runs of a study and what they will take, or what is wrong with it; trains nothing."""
    from unfreeze.datasets import load_dataset, load_evaluation_sets
    from unfreeze.display import show_plan
    from unfreeze.grid.estimate import estimate_all, estimated_budget
    from unfreeze.grid.plan import expand, shapes, share
    from unfreeze.grid.space import find_spaces, provisional
    from unfreeze.grid.tuning import expected
    from unfreeze.study import load_study
    from unfreeze.training.encoder import encoder_note

    loaded = load_study(study, overrides or [])
    dataset = load_dataset(loaded.data)
    load_evaluation_sets(loaded, dataset)
    spaces = find_spaces(loaded)
    runs = expand(provisional(loaded, spaces), dataset)
    everything = [*runs, *(space.trial(loaded, dataset, choice) for space in spaces for choice in space.grid)]
    known = shapes(everything)
    estimates = estimate_all(everything, known, dataset, loaded.device)
    budget = estimated_budget(loaded, everything, known, estimates, dataset)
    bound = {run.run_id: budget.bound(run) for run in everything}
    if not budget.is_default:
        known = shapes(list(bound.values()))
        estimates = estimate_all(list(bound.values()), known, dataset, loaded.device)
    runs = [bound[run.run_id] for run in runs]
    rows = [{"run": run, "shape": known[run.run_id], "estimate": estimates[run.run_id]} for run in runs]
    sharing: list[dict[str, Any]] = []
    for group in share(runs, known):
        seconds = max(estimates[run_id].prefix_seconds for run_id in group.run_ids)
        about = {"encoder": group.encoder, "depths": group.depths, "runs": len(group.run_ids), "seconds": seconds}
        sharing.append(about)
    show_plan(
        console,
        rows,
        sharing,
        [*dataset.notes, *filter(None, map(encoder_note, loaded.encoders))],
        expected(loaded, dataset, spaces, {run_id: estimates[run.run_id].seconds for run_id, run in bound.items()}),
        [*budget.about(runs)["sentences"], *(["(≈: what decides is measured first.)"] if budget.measures else [])],
    )


@app.command()
def explore(study: StudyArgument, overrides: Overrides = None) -> None:
    """Look at a study's data alone: size, sample, labels, lengths, duplicates, dropped rows."""
    from unfreeze.datasets import load_dataset
    from unfreeze.datasets.explore import explore as look
    from unfreeze.display import show_explore
    from unfreeze.study import load_study

    loaded = load_study(study, overrides or [])
    show_explore(console, look(load_dataset(loaded.data)))


@app.command()
def status(path: DirArgument) -> None:
    """Show how far each run of a study is."""
    from unfreeze.display import show_status, show_trials
    from unfreeze.grid.runner import compared_at, read_rows
    from unfreeze.grid.tuning import read_tuning
    from unfreeze.studydir import StudyDir

    study_dir = StudyDir.existing(path)
    if tuning := read_tuning(study_dir):
        show_trials(console, tuning)
    rows = read_rows(study_dir)
    show_status(console, rows, path, compared_at(study_dir, rows)["sentences"])


class Projection(StrEnum):
    """How the report's map of mistakes is laid out."""

    PCA = "pca"
    UMAP = "umap"


@app.command()
def report(
    path: DirArgument,
    projection: Annotated[Projection, typer.Option(help="Of the map of mistakes; umap is an extra.")] = Projection.PCA,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every figure there, as PNG and SVG.")
    ] = None,
) -> None:
    """Compare the runs that are there and write the report again; trains nothing."""
    from unfreeze.grid.runner import conclude
    from unfreeze.studydir import StudyDir

    result = conclude(StudyDir.existing(path), projection.value, figures)
    console.print(f"Report: {result.report}", highlight=False, soft_wrap=True)


@app.command()
def predict(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="DIR/runs/<run_id> of a finished run.")],
    premise: Annotated[str | None, typer.Option(help="The first text of a pair.")] = None,
    hypothesis: Annotated[str | None, typer.Option(help="The second text of a pair.")] = None,
    text: Annotated[str | None, typer.Option(help="A single text.")] = None,
    file: Annotated[Path | None, typer.Option(help="CSV, TSV, JSONL or Parquet with the same columns.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="CSV to write; default: standard output.")] = None,
) -> None:
    """Classify a pair, a text or a file with a trained run."""
    from unfreeze.display import show_probabilities
    from unfreeze.grid.predictor import Predictor, predict_file

    given = [text or premise, file]
    if sum(value is not None for value in given) != 1 or (text and (premise or hypothesis)):
        raise StudyError("predict: give --premise and --hypothesis, or --text, or --file")
    predictor = Predictor(run_dir)
    if file is not None:
        import pyarrow.csv

        from unfreeze.training.device import keep_freed_memory

        keep_freed_memory()
        table = predict_file(predictor, file, predictor.columns)
        target = sys.stdout.buffer if out is None else str(out)
        pyarrow.csv.write_csv(table, target)
        return
    probabilities = predictor.probabilities([text or premise or ""], None if hypothesis is None else [hypothesis])[0]
    show_probabilities(console, predictor.labels, dict(zip(predictor.labels, map(float, probabilities), strict=True)))


@app.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("study.yaml")) -> None:
    """Write a commented study to start from."""
    from importlib import resources

    if path.exists():
        raise StudyDirError(f"{path}: exists already; choose another name")
    path.write_text((resources.files("unfreeze") / "presets" / "demo.yaml").read_text("utf-8"), "utf-8")
    console.print(f"{path} written; 'unfreeze plan {path}' checks it", highlight=False)


@app.command()
def presets() -> None:
    """List the studies that ship with the package."""
    from unfreeze.study import preset_names, study_text

    for name in preset_names():
        first = study_text(name).splitlines()[0].removeprefix("# ")
        console.print(f"[bold]{name}[/]  {first}", highlight=False, soft_wrap=True)

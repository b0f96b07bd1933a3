"""Successive halving through Optuna, where there are more candidates than trials to spend.

Candidates are drawn at random, each at most once. A trial pauses after 1, 3, 9 … epochs and goes on only if its
validation accuracy is the best, or among the best third, of those that came so far (Li et al., 2018, arXiv:1810.05934).
Optuna keeps what it was told in a journal, so that an interrupted search goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from unfreeze.errors import MissingExtra
from unfreeze.studydir import write_text

if TYPE_CHECKING:
    from unfreeze.grid.search import Search, Step

FACTOR = 3


def check_optuna() -> Any:
    """The optional package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtra("tuning over more candidates than trials", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def rungs(epochs: int) -> list[int]:
    """The epochs after which a trial of so many is looked at: 1, 3, 9 and so on."""
    found = [1]
    while found[-1] < epochs:
        found.append(found[-1] * FACTOR)
    return found[:-1]


def halve(search: Search, trials: int | None) -> Iterator[list[Step]]:
    """What to run next, one trial at a time.

    Args:
        search: told which candidates were stopped.
        trials: how many to begin; None begins new ones until the search's seconds are spent.
    """
    optuna = check_optuna()
    states = optuna.trial.TrialState
    study = _open(search)

    def candidate(params: dict[str, int]) -> dict[str, Any]:
        return search.space.at([params[key] for key in search.space.axes])

    for ended in study.get_trials(states=(states.COMPLETE, states.PRUNED, states.FAIL)):
        if ended.state == states.PRUNED:
            search.stop(candidate(ended.params))
        else:
            yield [(candidate(ended.params), None)]
    interrupted = study.get_trials(states=(states.RUNNING,))
    most = min(trials or search.space.size, search.space.size)
    while interrupted or (len(study.trials) < most and not search.spent):
        if interrupted:
            trial = optuna.trial.Trial(study, interrupted.pop()._trial_id)
        else:
            study.sampler = _sampler(search)  # a new one: what it draws does not depend on interruptions
            trial = study.ask()
        places = {key: trial.suggest_int(key, 0, len(values) - 1) for key, values in search.space.axes.items()}
        yield from _climb(search, study, trial, candidate(places))


def _climb(search: Search, study: Any, trial: Any, choice: dict[str, Any]) -> Iterator[list[Step]]:
    """One trial from rung to rung; what came of it is told to Optuna."""
    states = check_optuna().trial.TrialState
    looked_at = study.trials[trial.number].intermediate_values
    for rung in rungs(search.plan(choice).spec.recipe.epochs):
        yield [(choice, rung)]
        found = search.outcome(choice)
        if found["accuracy"] is None or found["status"] in ("failed", "diverged"):
            study.tell(trial, state=states.FAIL)
            return
        if rung not in looked_at:
            trial.report(found["accuracy"], rung)
        if found["status"] != "finished" and trial.should_prune():
            search.stop(choice)
            study.tell(trial, state=states.PRUNED)
            return
    yield [(choice, None)]
    found = search.outcome(choice)
    if found["status"] == "finished":
        study.tell(trial, found["accuracy"])
    else:
        study.tell(trial, state=states.FAIL)


def _open(search: Search) -> Any:
    optuna = check_optuna()
    journal = search.study_dir.tuning_journal
    journal.parent.mkdir(parents=True, exist_ok=True)
    if journal.is_file() and (told := journal.read_bytes()) and not told.endswith(b"\n"):
        # A full disk can cut the last line; what came to stand behind it would make the journal unreadable.
        write_text(journal, told[: told.rfind(b"\n") + 1].decode())
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    return optuna.create_study(
        study_name=search.key,
        storage=optuna.storages.JournalStorage(backend),
        direction="maximize",
        sampler=_sampler(search),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=FACTOR),
        load_if_exists=True,
    )


def _sampler(search: Search) -> Any:
    places = {key: range(len(values)) for key, values in search.space.axes.items()}
    sampler = check_optuna().samplers.GridSampler(places, seed=search.study.tuning.seed)
    sampler.after_trial = lambda *_: None  # after the last candidate it would stop a loop of Optuna's; there is none
    return sampler

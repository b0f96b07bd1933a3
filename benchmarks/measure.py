"""Every row of the table, side by side in turn, each measurement in a fresh process."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import ours, peer
from benchmarks.work import GRID, Data, Work
from unfreeze.training.device import choose_compute

SIDES = ("unfreeze", "tuned", "untuned")

Row = dict[str, Any]


def one(side: str, work: Work, data: Data, seed: int) -> Row:
    """One measurement, with the peak of this process's resident memory."""
    compute = choose_compute("auto", "auto")
    found = (
        ours.measure(work, data, compute, seed)
        if side == "unfreeze"
        else peer.measure(work, data, compute, seed, tuned=side == "tuned")
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return found | {"peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def whole_grid(side: str, work: Work, data: Data, measure: Callable[..., Row]) -> Row:
    """A grid: unfreeze's executor does its runs, a peer one after another, which is each kind's times the seeds."""
    if side == "unfreeze":
        with tempfile.TemporaryDirectory() as folder:
            return {
                "seconds": ours.grid(work, data, Path(folder)),
                "accuracy": None,
                "useful": None,
                "peak_memory": None,
            }
    kinds = [measure(side, Work("", "run", kind, options), data, 0) for kind, options in GRID]
    return {
        "seconds": work.seeds * sum(row["seconds"] for row in kinds),
        "accuracy": None,
        "useful": None,
        "peak_memory": None,
    }


def measured(
    works: Sequence[Work], sides: Sequence[str], data: Mapping[int, Data], rounds: int
) -> dict[str, dict[str, list[Row]]]:
    """Rows by work and side.

    Args:
        works: what is measured.
        sides: of :data:`SIDES`.
        data: by the scale of works.
        rounds: of every work.
    """
    found: dict[str, dict[str, list[Row]]] = {work.name: {side: [] for side in SIDES} for work in works}
    # Forked from a process that has imported everything and computed nothing: fresh, and no time is lost.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:

        def measure(*job: Any) -> Row:
            return pool.submit(one, *job).result()

        for number in range(rounds):
            for work in works:
                for side in sides:
                    # The slowest side and the grid are measured once, and never both: it would be most of the time.
                    grid = work.mode == "grid"
                    if number == 0 if (side == "untuned") != grid else not grid:
                        pairs = data[work.scale]
                        row = whole_grid(side, work, pairs, measure) if grid else measure(side, work, pairs, number)
                        found[work.name][side].append(row)
                        print(f"round {number + 1} {work.name}: {side} {row['seconds']:.1f} s", file=sys.stderr)
    return found

"""Every row of the table, side by side in turn, each measurement in a fresh process."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import ours, peer
from benchmarks.work import GRID, WORKS, Data, Work
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


def whole_grid(side: str, data: Data, measure: Callable[..., Row]) -> Row:
    """The twelve runs: unfreeze's executor does them, a peer one after another, which is three times each kind's."""
    if side == "unfreeze":
        with tempfile.TemporaryDirectory() as folder:
            return {"seconds": ours.grid(data, Path(folder)), "accuracy": None, "useful": None, "peak_memory": None}
    kinds = [measure(side, Work("", "run", kind, options), data, 0) for kind, options in GRID]
    return {"seconds": 3 * sum(row["seconds"] for row in kinds), "accuracy": None, "useful": None, "peak_memory": None}


def measured(data: Mapping[int, Data], rounds: int, names: list[str]) -> dict[str, dict[str, list[Row]]]:
    """Rows by work and side.

    Args:
        data: by the scale of works.
        rounds: of every work.
        names: parts of the names of works that are done; all for none.
    """
    found: dict[str, dict[str, list[Row]]] = {work.name: {side: [] for side in SIDES} for work in WORKS}
    # Forked from a process that has imported everything and computed nothing: fresh, and no time is lost.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:

        def measure(*job: Any) -> Row:
            return pool.submit(one, *job).result()

        for number in range(rounds):
            for work in WORKS:
                if names and not any(name in work.name for name in names):
                    continue
                for side in SIDES:
                    # The slowest side and the grid are measured once, and never both: it would be most of the time.
                    grid = work.mode == "grid"
                    if number == 0 if (side == "untuned") != grid else not grid:
                        pairs = data[work.scale]
                        row = whole_grid(side, pairs, measure) if grid else measure(side, work, pairs, number)
                        found[work.name][side].append(row)
                        print(f"round {number + 1} {work.name}: {side} {row['seconds']:.1f} s", file=sys.stderr)
    return found

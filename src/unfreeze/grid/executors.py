"""Where jobs run: each in a fresh process, several side by side, or all in this one.

Importing torch, transformers and PEFT takes 6-8 s on two cores, so fresh processes are forked by a server
(:mod:`unfreeze.grid.server`) that has imported them and run nothing. A forked job's peak memory is its own,
and it ends with this process, even one that is killed.

A job is what :func:`unfreeze.grid.run.run_job` does, with an ``id`` and the ids it ``needs`` to have ended before. What
is called when one has ended may return further ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from unfreeze.errors import Diverged, RunError
from unfreeze.studydir import RunDir, write_json

# How often a thread of GNU's OpenMP looks whether the others are done before it sleeps. By default so often that two
# threads beside other work got through 27 to 30 pairs/s of LoRA, and with this 185; alone they are equal.
SPINS = "20000"

Job = dict[str, Any]
Report = Callable[[dict[str, Any]], None]
Finish = Callable[[Job, int], Sequence[Job] | None]


def inline(folder: Path, jobs: Sequence[Job], report: Report, finish: Finish) -> None:
    """Run jobs one after another in this process, for debuggers and tests. CPU peak memory is not measured."""
    from unfreeze.grid.run import run_job

    waiting = list(jobs)
    while waiting:
        job = waiting.pop(0)
        report({"kind": "started", "job": job["id"], "pid": os.getpid()})
        run_job(folder, job, report, own_process=False)
        waiting += finish(job, 0) or []


def local(folder: Path, jobs: Sequence[Job], report: Report, finish: Finish, *, workers: int, threads: int) -> None:
    """Run jobs in fresh processes, in order as far as what they need has ended.

    Args:
        folder: the study's folder.
        jobs: with those that are needed before those that need them.
        report: called with every row that a job reports.
        finish: called after each job with its process's exit code (negative: the signal that killed it); may return
            further jobs.
        workers: jobs that run at a time.
        threads: of each job's matrix products; ``OMP_NUM_THREADS`` has precedence.
    """
    lifeline, held = os.pipe()
    command = [sys.executable, "-m", "unfreeze.grid.server", str(folder), str(lifeline)]
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
    # A session of its own: Ctrl-C reaches this process alone, which then ends the whole group.
    server = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
        pass_fds=[lifeline],
    )
    os.close(lifeline)
    assert server.stdin
    assert server.stdout
    try:
        _serve(server.stdin, server.stdout, list(jobs), report, finish, workers)
        server.stdin.close()
        server.wait()
    except BrokenPipeError:
        raise RunError(
            f"the process that runs the grid ended with code {server.wait()}; its last words are above"
        ) from None
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        os.close(held)


def _serve(stdin: IO[str], stdout: IO[str], waiting: list[Job], report: Report, finish: Finish, workers: int) -> None:
    """Keep ``workers`` jobs going and hand on their rows until none is left."""
    running: dict[str, Job] = {}
    while waiting or running:
        unfinished = {job["id"] for job in [*waiting, *running.values()]}
        ready = [job for job in waiting if unfinished.isdisjoint(job["needs"])]
        for job in ready[: workers - len(running)]:
            waiting.remove(job)
            running[job["id"]] = job
            stdin.write(json.dumps(job | {"workers": workers}) + "\n")
            stdin.flush()
        line = stdout.readline()
        if not line:
            raise BrokenPipeError
        row = json.loads(line)
        if row["kind"] == "exit":
            waiting += finish(running.pop(row["job"]), row["code"]) or []
        else:
            report(row)


def note_killed(run: RunDir, code: int) -> None:
    """A process that the system killed could not write its own failure."""
    if code and not run.result.is_file():
        why = "killed by the system, most likely for lack of memory" if code == -9 else f"ended with code {code}"
        write_failure(run, RunError(f"the run's process was {why}; try a smaller batch_size"), step=None)


def write_failure(run: RunDir, error: Exception, step: int | None) -> None:
    """Write ``failure.json``: what failed, at which step, and where in the code."""
    status = "diverged" if isinstance(error, Diverged) else "failed"
    message = " ".join(str(error).split()) or type(error).__name__
    trace = "".join(traceback.format_exception(error))
    content = {"status": status, "type": type(error).__name__, "message": message, "step": step, "traceback": trace}
    write_json(run.failure, content)

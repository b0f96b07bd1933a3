"""Where jobs run: each in a fresh process, or all in this one.

Importing torch, transformers and PEFT takes 6-8 s on two cores, so fresh processes are forked by a server
(:mod:`unfreeze.grid.server`) that has imported them and run nothing. A forked job's peak memory is its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from unfreeze.errors import RunError

Job = dict[str, Any]
Report = Callable[[dict[str, Any]], None]
Finish = Callable[[Job, int], None]


def inline(folder: Path, jobs: Iterable[Job], report: Report, finish: Finish) -> None:
    """Run jobs one after another in this process, for debuggers and tests. CPU peak memory is not measured."""
    from unfreeze.grid.run import run_job

    for job in jobs:
        run_job(folder, job, report, own_process=False)
        finish(job, 0)


def local(folder: Path, jobs: Iterable[Job], report: Report, finish: Finish) -> None:
    """Run jobs one after another, each in a fresh process.

    Args:
        folder: the study's folder.
        jobs: taken one at a time.
        report: called with every row that a job reports.
        finish: called after each job with its process's exit code (negative: the signal that killed it).
    """
    command = [sys.executable, "-m", "unfreeze.grid.server", str(folder)]
    # A session of its own: Ctrl-C reaches this process alone, which then ends the whole group.
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdin
    try:
        for job in jobs:
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            finish(job, _follow(server, report))
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


def _follow(server: subprocess.Popen[str], report: Report) -> int:
    """Hand on a job's rows until the server says how it ended."""
    assert server.stdout
    for line in server.stdout:
        row = json.loads(line)
        if row["kind"] == "exit":
            return int(row["code"])
        report(row)
    return server.wait()


EXECUTORS = {"local": local, "inline": inline}

"""``python -m unfreeze.grid.server DIR LIFELINE``: import what every run needs once, then fork a process for each job.

Jobs come as JSON lines on standard input and start at once; rows that jobs report, and how each ended, leave as JSON
lines on standard output. The server itself never computes: a fork of a process whose thread pools have started would
hang. LIFELINE is the descriptor of a pipe whose other end the caller holds, and nobody else: it closes with the caller.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import peft  # noqa: F401
import transformers  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from unfreeze.grid.run import run_job
from unfreeze.training.device import keep_freed_memory

# What a pipe takes in one piece, so that rows of jobs that run side by side never mix (PIPE_BUF on Linux).
PIECE = 4096


def main() -> None:
    """Serve until standard input closes."""
    folder, lifeline = sys.argv[1], int(sys.argv[2])
    # The rows' channel is kept apart, so that a library's print cannot break it.
    channel = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    get_checkpoint_conversion_mapping("")  # compiles 980 patterns: 0.9 s that each job would spend on its own
    for line in sys.stdin:
        if os.fork() == 0:
            _keep(folder, json.loads(line), channel, lifeline)


def _keep(folder: str, job: dict[str, Any], channel: int, lifeline: int) -> None:
    """Fork the job, wait for it, and say how it ended: the server goes on to the next one meanwhile."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        threading.Thread(target=_end_with_the_caller, args=(lifeline,), daemon=True).start()
        _do(folder, job, channel)
    _, status = os.waitpid(child, 0)
    _write(channel, {"kind": "exit", "job": job["id"], "code": os.waitstatus_to_exitcode(status)})
    os._exit(0)


def _end_with_the_caller(lifeline: int) -> None:
    """Wait for the caller's end, however it comes: a second start may take over the folder the moment after."""
    os.read(lifeline, 1)  # nothing is ever written: it returns when the pipe closes
    os._exit(1)


def _do(folder: str, job: dict[str, Any], channel: int) -> None:
    """The child: do the job and end without the server's clean-up."""
    code = 1
    try:
        _write(channel, {"kind": "started", "job": job["id"], "pid": os.getpid()})
        keep_freed_memory()
        run_job(folder, job, lambda row: _write(channel, row), own_process=True)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _write(channel: int, row: dict[str, Any]) -> None:
    text = json.dumps(row) + "\n"
    if len(text) > PIECE:  # only a note's message is as long
        text = json.dumps(row | {"message": row["message"][: PIECE // 8] + "…"}) + "\n"
    try:
        os.write(channel, text.encode())
    except BrokenPipeError:
        os._exit(1)  # whoever watched is gone; the last whole epoch is on disk


if __name__ == "__main__":
    main()

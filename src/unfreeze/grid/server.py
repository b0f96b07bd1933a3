"""``python -m unfreeze.grid.server DIR``: import what every run needs once, then fork a process for each job.

Jobs come as JSON lines on standard input; rows a job reports, and how it ended, leave as JSON lines on standard
output. The server itself never computes: a fork of a process whose thread pools have started would hang.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import peft  # noqa: F401
import transformers  # noqa: F401

from unfreeze.grid.run import run_job


def main() -> None:
    """Serve until standard input closes."""
    folder = sys.argv[1]
    # The rows' channel is kept apart, so that a library's print cannot break it.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _do(folder, line, channel)
        _, status = os.waitpid(child, 0)
        _write(channel, {"kind": "exit", "code": os.waitstatus_to_exitcode(status)})


def _do(folder: str, line: str, channel: Any) -> None:
    """The child: do the job and end without the server's clean-up."""
    code = 1
    try:
        run_job(folder, json.loads(line), lambda row: _write(channel, row), own_process=True)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _write(channel: Any, row: dict[str, Any]) -> None:
    try:
        channel.write(json.dumps(row) + "\n")
    except BrokenPipeError:
        os._exit(1)  # whoever watched is gone; the last whole epoch is on disk


if __name__ == "__main__":
    main()

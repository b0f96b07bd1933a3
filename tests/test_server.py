"""Fresh processes, and what becomes of them when whoever started them is killed."""

import json
import os
import signal
import subprocess
import sys
import time

from unfreeze.recipe import Recipe
from unfreeze.study import RunSpec

CALLER = """
import json, sys
from unfreeze.grid.executors import local
def tell(row): print(json.dumps(row), flush=True)
local(sys.argv[1], json.loads(sys.argv[2]), tell, lambda job, code: None, workers=1, threads=1)
"""


def test_a_job_dies_with_a_caller_that_is_killed_though_it_has_nothing_to_report(tmp_path):
    """The job reads its data from a pipe that nobody writes to: it would wait there for ever."""
    (tmp_path / "data").mkdir()
    os.mkfifo(tmp_path / "data" / "dataset.json")
    facts = {"dataset": "d", "data_fingerprint": "f", "labels": ["a", "b"], "is_pair": True, "max_length": 8, "seed": 0}
    spec = RunSpec(
        **facts, encoder="e", strategy={"kind": "full"}, strategy_slug="full", recipe=Recipe(learning_rate=1)
    )
    job = {"id": "stuck", "kind": "run", "needs": [], "device": "cpu", "spec": spec.model_dump(mode="json")}
    command = [sys.executable, "-c", CALLER, str(tmp_path), json.dumps([job])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        pid = json.loads(caller.stdout.readline())["pid"]
        assert alive(pid)
        caller.kill()
    try:
        deadline = time.monotonic() + 60
        while alive(pid):
            assert time.monotonic() < deadline, "the job outlives its caller"
            time.sleep(0.01)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

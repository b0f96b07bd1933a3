"""What a run writes down while it trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unfreeze.studydir import write_text

Report = Callable[[dict[str, Any]], None]


@dataclass
class History:
    """Lines of history.jsonl, written as they come."""

    path: Path
    report: Report
    lines: int = 0

    def __post_init__(self) -> None:
        """Drop lines of an epoch that was interrupted: it will be run again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = self.path.read_text().splitlines(keepends=True)[: self.lines] if self.lines else []
        # At once: a search counts a trial's epochs here, and would wait forever for one whose lines a kill took away.
        write_text(self.path, "".join(kept))

    def write(self, row: dict[str, Any]) -> None:
        """Append one row and show it to whoever watches."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.lines += 1
        self.report(row)

"""unfreeze against its peers, interleaved in one run, each measurement in a fresh process.

``python -m benchmarks [--snli FOLDER] [--pairs N] [--rounds N] [--write]``: without a folder of SNLI the pairs are
generated. Ratios are medians over rounds with their least and greatest; absolute figures are this machine's, now.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path

from benchmarks import peer
from benchmarks.measure import SIDES, Row, measured
from benchmarks.work import WORKS, Data, Work, load, tokens
from unfreeze.grid.environment import environment
from unfreeze.records import SPLITS
from unfreeze.training.device import choose_compute

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
BEGIN, END = "<!-- table: written by python -m benchmarks -->", "<!-- end of table -->"


def pairs_of(work: Work, data: Data) -> int:
    """Pairs that a side works through, for its rate."""
    count = {split: len(data.dataset.splits[split]) for split in SPLITS}
    if work.mode == "predict":
        return count["test"]
    return count["train"] * work.epochs * (12 if work.mode == "grid" else 1)


def table(found: dict[str, dict[str, list[Row]]], data: Mapping[int, Data]) -> str:
    """The page's tables, as Markdown."""
    heads = ("work", "unfreeze, pairs/s", "tuned", "untuned", "against tuned", "against untuned", "asked for")
    heads += ("of peak", "peak memory, MB", "tuned, MB")
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for work in WORKS:
        sides = found[work.name]
        if not sides["unfreeze"]:
            continue
        rates = [
            f"{pairs_of(work, data[work.scale]) / statistics.median(seconds(sides[side])):.0f}" if sides[side] else "—"
            for side in SIDES
        ]
        ratios = [spread(sides[side], sides["unfreeze"]) for side in SIDES[1:]]
        wanted = " / ".join(f"{target:g}" for target in work.targets) if work.targets else "—"
        useful = [row["useful"] for row in sides["unfreeze"] if row["useful"]]
        share = f"{100 * statistics.median(useful):.0f} %" if useful else "—"
        peaks = [max((row["peak_memory"] or 0) for row in sides[side]) for side in SIDES[:2]]
        memory = [f"{peak / 1e6:.0f}" if peak else "—" for peak in peaks]
        lines.append(f"| {' | '.join([work.name, *rates, *ratios, wanted, share, *memory])} |")
    lines += ["", "| test accuracy, %, by seed | unfreeze | tuned | untuned |", "|---|--:|--:|--:|"]
    for work in (work for work in WORKS if work.mode == "run" and found[work.name]["unfreeze"]):
        cells = [", ".join(f"{100 * row['accuracy']:.1f}" for row in found[work.name][side]) for side in SIDES]
        lines.append(f"| {' | '.join([work.name, *cells])} |")
    return "\n".join(lines)


def seconds(rows: list[Row]) -> list[float]:
    """Of each row."""
    return [row["seconds"] for row in rows]


def spread(theirs: list[Row], mine: list[Row]) -> str:
    """How many times faster, round by round: median, least and greatest."""
    if not theirs:
        return "—"
    ratios = [a / b for a, b in zip(seconds(theirs), seconds(mine), strict=False)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def about(by_scale: Mapping[int, Data], rounds: int) -> str:
    """What the figures were measured with."""
    data = by_scale[1]
    compute, machine = choose_compute("auto", "auto"), environment()
    sizes = ", ".join(f"{len(data.dataset.splits[split]):,} {split}" for split in SPLITS)
    others = ", ".join(f"{scale} times as many for {work.name}" for work in WORKS if (scale := work.scale) > 1)
    lengths = data.tokens["train"].lengths
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "peft"))
    where = f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {compute.precision}"
    return (
        f"{data.dataset.name}: {sizes} pairs ({others}) of {lengths.mean():.1f} tokens on average (batches in random "
        f"order are {100 * peer.padded_share(lengths):.0f} % padding), {rounds} rounds; {where}; "
        f"{versions}; commit {machine['commit']}, {machine['date'][:10]}."
    )


def main() -> None:
    """Measure, print, and write the page's table where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--snli", type=Path, help="folder of SNLI; generated pairs without it")
    parser.add_argument("--pairs", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="rows whose name holds one of these")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    chosen = parser.parse_args()
    data = {scale: tokens(load(chosen.snli, scale * chosen.pairs)) for scale in {work.scale for work in WORKS}}
    text = f"{table(measured(data, chosen.rounds, chosen.only), data)}\n\n{about(data, chosen.rounds)}"
    print(text)
    if chosen.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

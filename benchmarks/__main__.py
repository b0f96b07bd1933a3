"""unfreeze against its peers, interleaved in one run, each measurement in a fresh process.

``python -m benchmarks [--snli FOLDER] [--pairs N] [--rounds N] [--scaling] [--write]``: without a folder of SNLI the
pairs are generated. Ratios are medians over rounds with their least and greatest; absolute figures are this machine's,
now.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import peer
from benchmarks.measure import SIDES, Row, measured
from benchmarks.work import GRID, SCALING, WORKS, Data, Work, load, tokens
from unfreeze.grid.environment import environment
from unfreeze.records import SPLITS
from unfreeze.training.device import choose_compute

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
END = "<!-- end of table -->"


def pairs_of(work: Work, data: Data) -> int:
    """Pairs that a side works through, for its rate."""
    count = {split: len(data.dataset.splits[split]) for split in SPLITS}
    if work.mode == "predict":
        return count["test"]
    return count["train"] * work.epochs * (len(GRID) * work.seeds if work.mode == "grid" else 1)


def table(works: Sequence[Work], found: dict[str, dict[str, list[Row]]], data: Mapping[int, Data]) -> str:
    """The page's tables, as Markdown."""
    heads = ("work", "unfreeze, pairs/s", "tuned", "untuned", "against tuned", "against untuned", "asked for")
    heads += ("of peak", "peak memory, MB", "tuned, MB")
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    for work in works:
        sides = found[work.name]
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
    for work in (work for work in works if work.mode == "run"):
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


def about(works: Sequence[Work], by_scale: Mapping[int, Data], rounds: int) -> str:
    """What the figures were measured with."""
    least = min(by_scale)
    data = by_scale[least]
    compute, machine = choose_compute("auto", "auto"), environment()
    sizes = ", ".join(f"{len(data.dataset.splits[split]):,} {split}" for split in SPLITS)
    others = "".join(f", {n / least:g} times as many for {work.name}" for work in works if (n := work.scale) > least)
    lengths = data.tokens["train"].lengths
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "peft"))
    where = f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {compute.precision}"
    return (
        f"{data.dataset.name}: {sizes} pairs{others}; of {lengths.mean():.1f} tokens on average (batches in random "
        f"order are {100 * peer.padded_share(lengths, works[0].batch):.0f} % padding), {rounds} rounds; {where}; "
        f"{versions}; commit {machine['commit']}, {machine['date'][:10]}."
    )


def main() -> None:
    """Measure, print, and write the page's table where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--snli", type=Path, help="folder of SNLI; generated pairs without it")
    parser.add_argument("--pairs", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[""], help="rows whose name holds one of these")
    parser.add_argument("--scaling", action="store_true", help="how cost grows, beside the tuned peer alone")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    chosen = parser.parse_args()
    every, sides = (SCALING, SIDES[:2]) if chosen.scaling else (WORKS, SIDES)
    works = [work for work in every if any(part in work.name for part in chosen.only)]
    data = {scale: tokens(load(chosen.snli, scale * chosen.pairs)) for scale in {work.scale for work in works}}
    found = measured(works, sides, data, chosen.rounds)
    text = f"{table(works, found, data)}\n\n{about(works, data, chosen.rounds)}"
    print(text)
    if chosen.write:
        command = f"python -m benchmarks{' --scaling' if chosen.scaling else ''}"
        before, begin, rest = PAGE.read_text(encoding="utf-8").partition(f"<!-- table: written by {command} -->")
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Rows become tables: medians with the least and the most of all rounds, and ratios to floor and peers."""

import collections
import dataclasses
import json
import statistics

from . import contestants, plot, promises, scenarios
from .machine import HERE

RESULTS = HERE / "results"
RAW = RESULTS / "raw.jsonl"

NO_MORE_LATENCY = (1.25, 50)
"""A peer adds no more latency if its median is at most so many times ours, and so many µs: that much is noise."""


def load():
    """All rows measured so far, and what was noted about the machine."""
    rows = [json.loads(line) for line in RAW.read_text().splitlines()] if RAW.exists() else []
    return [r for r in rows if "scenario" in r], next((r for r in reversed(rows) if "cpu" in r), {})


def forget(selected):
    """Removes earlier rows of these (scenario, contestant) pairs, which are measured anew."""
    rows, facts = load()
    RESULTS.mkdir(exist_ok=True)
    kept = [r for r in rows if (r["scenario"], r["contestant"]) not in selected]
    RAW.write_text("".join(json.dumps(r) + "\n" for r in [*kept, facts] if r))


def add(row):
    with RAW.open("a") as raw:
        raw.write(json.dumps(row) + "\n")


class Results:
    """The rows of one scenario, by contestant."""

    def __init__(self, rows, figure, more_is_better):
        by_name = collections.defaultdict(list)
        for row in rows:
            by_name[row["contestant"]].append(row)
        self.by_name = {name: by_name[name] for name in contestants.ALL if name in by_name}
        self.figure, self.more_is_better = figure, more_is_better

    def values(self, name, key):
        return [row[key] for row in self.by_name.get(name, ()) if row.get(key) is not None]

    def median(self, name, key):
        values = self.values(name, key)
        return statistics.median(values) if values else None

    def best(self, names):
        """Of these the one with the best median of the scenario's figure."""
        known = [n for n in names if self.median(n, self.figure)]
        sign = -1 if self.more_is_better else 1
        return min(known, key=lambda n: sign * self.median(n, self.figure), default=None)

    def best_floor(self, name):
        """The leanest floor with the same budget."""
        budget = contestants.ALL[name].budget
        kin = [c for c in self.by_name if contestants.ALL[c].kind == "floor" and contestants.ALL[c].budget == budget]
        return self.best(kin)

    def best_peer(self, name):
        """The best peer that loses next to nothing and, where that counts, adds no more latency."""
        factor, offset = NO_MORE_LATENCY
        own = self.median(name, "p50_us")

        def fair(peer):
            if self.more_is_better:
                return True
            lossless = self.median(peer, "lost") <= self.median(peer, "expected") / 1000
            return lossless and self.median(peer, "p50_us") <= factor * own + offset

        return self.best([c for c in self.by_name if contestants.ALL[c].kind == "peer" and fair(c)])

    def ratios(self, name, reference):
        """Ours to the reference's, round by round."""
        if reference is None or reference == name:
            return []
        theirs = {row["round"]: row.get(self.figure) for row in self.by_name.get(reference, ())}
        return [
            row[self.figure] / theirs[row["round"]]
            for row in self.by_name.get(name, ())
            if row.get(self.figure) is not None and theirs.get(row["round"])
        ]


def cell(values, text):
    """Median, and in brackets the least and the most."""
    if not values:
        return ""
    middle = text(statistics.median(values))
    low, high = text(min(values)), text(max(values))
    return middle if low == high else f"{middle} ({low}–{high})"


def number(digits=0, factor=1.0, unit=""):
    return lambda value: f"{value * factor:.{digits}f}{unit}"


def microseconds(value):
    return f"{value:.0f} µs" if value < 9999.5 else f"{value / 1000:.1f} ms"


@dataclasses.dataclass
class Column:
    title: str
    key: str
    text: object


CPU = Column("CPU %", "cpu_percent", number(1))
CPU_IN = Column("CPU ms/Gbit in", "cpu_ms_per_gbit_in", number())
CPU_OUT = Column("CPU ms/Gbit out", "cpu_ms_per_gbit_out", number())
LOST = Column("lost packets", "lost", number())
P50 = Column("p50", "p50_us", microseconds)
P99 = Column("p99", "p99_us", microseconds)
P999 = Column("p99.9", "p999_us", microseconds)
RSS = Column("RSS MB", "rss_kib", number(1, 1 / 1024))
PROCESSES = Column("processes", "processes", number())
THREADS = Column("threads", "threads", number())
RATE = Column("Mbit/s in", "real_rate", number(0, 1e-6))
LOSSLESS = Column("lossless, Mbit/s in", "lossless_rate", number(0, 1e-6))

LAYOUTS = {
    scenarios.Relay: [CPU, CPU_IN, CPU_OUT, "floor", "peer", LOST, P50, P99, P999, RSS, PROCESSES],
    scenarios.Flood: [LOSSLESS, "floor", "peer", "limit", CPU, CPU_OUT, P50, P99],
    scenarios.FloodLossless: [
        RATE, LOST, Column("of these in the sink", "lost_in_sink", number()), "floor", CPU, CPU_OUT, P50, P99, P999, RSS,
    ],
    scenarios.NoisyNeighbour: [
        LOST, P50, P99, P999, CPU, RSS, Column("lost of the noisy one", "noise_lost", number()),
        Column("its Mbit/s", "noise_rate", number(0, 1e-6)),
    ],
    scenarios.Idle: [
        Column("CPU %, all idle", "idle_percent", number(2)), Column("CPU %, one carries", "cpu_percent", number(2)), RSS,
        Column("start to all bound", "seconds_to_bound", number(0, 1000, " ms")), LOST, P50, P99,
        Column("/v1/flows", "flows_ms", number(1, 1, " ms")), Column("/metrics", "metrics_ms", number(1, 1, " ms")),
        Column("lost while asked", "asked_lost", number()), Column("p99 while asked", "asked_p99_us", microseconds),
    ],
    scenarios.Outputs: [
        *(Column(f"µs a packet to {n}", f"us_per_packet_{n}", number(2)) for n in (1, 50, 500)),
        Column("500 outputs: Mbit/s in", "real_rate", number(2, 1e-6)), "floor", LOST, P50, P99, RSS,
    ],
    scenarios.Redundant: [CPU, CPU_IN, CPU_OUT, LOST, P50, P99, P999, RSS],
    scenarios.SrtIn: [CPU, CPU_IN, "peer", LOST, P50, P99, RSS, PROCESSES, THREADS],
    scenarios.SrtOut: [CPU, CPU_OUT, "peer", LOST, P50, P99, RSS, PROCESSES, THREADS],
    scenarios.RistIn: [CPU, CPU_IN, "peer", LOST, P50, P99, RSS, PROCESSES, THREADS],
    scenarios.RistOut: [CPU, CPU_OUT, "peer", LOST, P50, P99, RSS, PROCESSES, THREADS],
    scenarios.Reload: [
        Column("write to applied", "applied_ms", number(0, 1, " ms")),
        Column("longest", "applied_longest_ms", number(0, 1, " ms")), Column("lost elsewhere", "lost", number()),
    ],
}  # fmt: skip


def results_of(name, rows):
    scenario = scenarios.ALL[name]
    flood = isinstance(scenario, scenarios.Flood)
    figure = "lossless_rate" if flood else "cpu_ms_per_gbit_out"
    return Results([r for r in rows if r["scenario"] == name], figure, flood)


def table(name, rows):
    """The Markdown table of a scenario, as lines."""
    results, layout = results_of(name, rows), LAYOUTS[type(scenarios.ALL[name])]
    special = {"floor": "× floor", "peer": "× best peer", "limit": "limited by"}
    titles = [special[c] if isinstance(c, str) else c.title for c in layout]
    lines = ["| contestant | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
    for contestant in results.by_name:
        cells = []
        for column in layout:
            if column == "floor":
                floor = results.best_floor(contestant)
                cells.append(cell(results.ratios(contestant, floor), number(2)))
            elif column == "peer":
                ours = contestants.ALL[contestant].kind == "ours"
                best = results.best_peer(contestant) if ours else None
                ratio = cell(results.ratios(contestant, best), number(2))
                cells.append(f"{ratio} {best}" if ratio else "")
            elif column == "limit":
                limits = collections.Counter(results.values(contestant, "limit"))
                cells.append(limits.most_common(1)[0][0] if limits else "")
            else:
                cells.append(cell(results.values(contestant, column.key), column.text))
        shown = f"**{contestant}**" if contestants.ALL[contestant].kind == "ours" else contestant
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return lines


def write(chosen=()):
    """results.md and its plots, from all rows there are; returns what concerns the chosen scenarios."""
    RESULTS.mkdir(exist_ok=True)
    rows, facts = load()
    all_results = {name: results_of(name, rows) for name in scenarios.ALL if any(r["scenario"] == name for r in rows)}
    rounds = max((row["round"] + 1 for row in rows), default=0)
    lines = [
        "# Results",
        "",
        f"Measured {facts.get('date')} on {facts.get('cpus')} CPUs {facts.get('cpu')}, Linux {facts.get('kernel')}, by "
        f"`tests/bench/run`, up to {rounds} rounds. Medians; in brackets the least and the most of all rounds. CPU time by "
        f"{facts.get('accounting')}. `× floor` is the ratio to the leanest floor of the same budget in the same round, "
        "`× best peer` to the best peer that loses nothing and adds no more latency. "
        "[How it is measured](../README.md).",
    ]
    for title, file, draw in plot.ALL:
        if svg := draw(all_results):
            (RESULTS / file).write_text(svg)
            lines += ["", f"![{title}]({file})"]
    lines += section("Promises", promises.table(all_results))
    for name in all_results:
        lines += section(name, [f"{scenarios.ALL[name].title}.", "", *table(name, rows)])
    (RESULTS / "results.md").write_text("\n".join(lines) + "\n")
    few = {name: all_results[name] for name in chosen if name in all_results}
    shown = [line for name in few for line in section(name, table(name, rows))]
    return "\n".join(shown + section("Promises", promises.table(few)))


def section(heading, lines):
    return ["", f"## {heading}", "", *lines] if lines else []

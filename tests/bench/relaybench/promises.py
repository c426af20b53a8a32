"""What is promised of mediaconnectd, and whether it is kept: medians of all rounds against limits."""

import dataclasses
import statistics

from . import contestants, scenarios

SRT = "mediaconnectd-srt"
AT_ONCE, ONE, FIVE, AUTO = (f"mediaconnectd-{gather}" for gather in ("0s", "1ms", "5ms", "auto"))


@dataclasses.dataclass
class Promise:
    """One figure of one contestant in one scenario, and the most (or least) it may be."""

    scenario: str
    text: str
    values: list
    limit: float
    least: bool = False
    digits: int = 2
    unit: str = ""
    # The same of the leanest relay, in the same rounds: what no relay can better.
    leanest: list = ()

    @property
    def kept(self):
        middle = statistics.median(self.values)
        return middle >= self.limit if self.least else middle <= self.limit

    def row(self):
        def text(value):
            return f"{value:.{self.digits}f}{self.unit}"

        values = sorted(self.values)
        middle = text(statistics.median(values))
        measured = middle if len(values) == 1 else f"{middle} ({text(values[0])}–{text(values[-1])})"
        limit = f"{'at least' if self.least else 'at most'} {text(self.limit)}"
        leanest = text(statistics.median(self.leanest)) if self.leanest else ""
        kept = "kept" if self.kept else "**missed**"
        return f"| {self.scenario} | {self.text} | {limit} | {measured} | {leanest} | {kept} |"


def table(all_results):
    """Markdown lines; of promises whose scenario was measured only."""
    found = [p for name, results in all_results.items() for p in of_scenario(name, results) if p.values]
    found += [p for p in across(all_results) if p.values]
    if not found:
        return []
    return ["| scenario | promise | limit | measured | leanest relay | |", "|---|---|--:|--:|--:|---|", *(p.row() for p in found)]


def of_scenario(name, results):
    scenario = scenarios.ALL[name]
    for kind, promises in (
        (scenarios.Relay, relay),
        (scenarios.Flood, flood),
        (scenarios.FloodLossless, nothing_lost),
        (scenarios.NoisyNeighbour, nothing_lost),
        (scenarios.Idle, idle),
        (scenarios.Outputs, outputs),
        (scenarios.Reload, reload),
        (scenarios.Redundant, redundant),
        (scenarios.SrtIn, srt_in),
        (scenarios.SrtOut, srt_out),
        (scenarios.Rist, rist),
    ):
        if isinstance(scenario, kind):
            yield from promises(name, scenario, results)


def across(all_results):
    """Of one scenario against another."""
    ten, hundred = (all_results.get(f"srt-out-{n}-20M") for n in (10, 100))
    if ten and hundred:
        few = {row["round"]: row["cpu_ms_per_gbit_out"] for row in ten.by_name.get(SRT, ())}
        rows = [row for row in hundred.by_name.get(SRT, ()) if row["round"] in few]
        grown = [row["cpu_ms_per_gbit_out"] / few[row["round"]] for row in rows]
        yield Promise("srt-out-100-20M", f"{SRT}: CPU of a receiver, 100 to 10", grown, 1.0)


def by_round(results, contestant, reference, key, combine):
    theirs = {row["round"]: row for row in results.by_name.get(reference, ())}
    rows = results.by_name.get(contestant, ())
    return [combine(row[key], theirs[row["round"]][key]) for row in rows if row["round"] in theirs]


def relay(name, scenario, results):
    def cpu(ours, reference):
        return by_round(results, ours, reference, "cpu_ms_per_gbit_out", lambda a, b: a / b)

    def against_best_peer(ours, limit, floor):
        if ours in results.by_name and (best := results.best_peer(ours)):
            yield Promise(name, f"{ours}: CPU to {best}'s", cpu(ours, best), limit, leanest=cpu(floor, best))

    yield Promise(name, f"{AT_ONCE}: CPU to floor-gso's", cpu(AT_ONCE, "floor-gso"), 1.15)
    yield from against_best_peer(AT_ONCE, 0.7 if scenario.flows == 100 else 1.0, "floor-gso")
    slower = by_round(results, AT_ONCE, "floor-gso", "p50_us", lambda a, b: a - b)
    yield Promise(name, f"{AT_ONCE}: p50 above floor-gso's", slower, 20, digits=0, unit=" µs")
    tail = by_round(results, AT_ONCE, "floor-gso", "p99_us", lambda a, b: a / b)
    yield Promise(name, f"{AT_ONCE}: p99 to floor-gso's", tail, 1.5)
    for ours, budget, fastest, of_peer in ((ONE, 1000, 50e6, 0.4), (FIVE, 5000, 20e6, 0.35)):
        if scenario.rate < fastest:
            continue
        floor = f"floor-gso+{budget // 1000}ms"
        yield Promise(name, f"{ours}: CPU to {floor}'s", cpu(ours, floor), 1.2)
        yield from against_best_peer(ours, of_peer, floor)
        if scenario.rate / (1316 * 8) * budget / 1e6 >= 5:
            most = 0.75 * budget + 100
            yield Promise(name, f"{ours}: p50", results.values(ours, "p50_us"), most, digits=0, unit=" µs")
            tail = results.values(ours, "p99_us")
            yield Promise(name, f"{ours}: p99", tail, budget + 1000, digits=0, unit=" µs")
    analysed, plain = "mediaconnectd-analysed", "mediaconnectd-not-analysed"
    yield Promise(name, f"{analysed}: CPU to that without", cpu(analysed, plain), 1.1)
    if scenario.flows == 100:
        for ours in (AT_ONCE, AUTO):
            rss = [kib / 1024 for kib in results.values(ours, "rss_kib")]
            yield Promise(name, f"{ours}: RSS", rss, 30, digits=1, unit=" MB")
    yield from nothing_lost(name, scenario, results)


def flood(name, scenario, results):
    if name != "flood-1-to-10":
        return
    best = max((AT_ONCE, AUTO), key=lambda ours: results.median(ours, "lossless_rate") or 0)
    yield Promise(name, f"{best}: rate to floor-gso's", results.ratios(best, "floor-gso"), 0.85, least=True)
    if peer := results.best_peer(best):
        leanest = results.ratios("floor-gso", peer)
        yield Promise(name, f"{best}: rate to {peer}'s", results.ratios(best, peer), 7, least=True, leanest=leanest)


def nothing_lost(name, scenario, results):
    for ours in (c for c in results.by_name if contestants.ALL[c].kind == "ours"):
        yield Promise(name, f"{ours}: lost packets", results.values(ours, "lost"), 0, digits=0)


def idle(name, scenario, results):
    for ours in (c for c in results.by_name if contestants.ALL[c].kind == "ours"):
        yield Promise(name, f"{ours}: CPU, all idle", results.values(ours, "idle_percent"), 1, unit=" %")
        rss = [kib / 1024 for kib in results.values(ours, "rss_kib")]
        yield Promise(name, f"{ours}: RSS", rss, 60, digits=1, unit=" MB")
        yield Promise(name, f"{ours}: start to all bound", results.values(ours, "seconds_to_bound"), 1, unit=" s")
        yield Promise(name, f"{ours}: /v1/flows", results.values(ours, "flows_ms"), 50, digits=1, unit=" ms")
        yield Promise(name, f"{ours}: /metrics", results.values(ours, "metrics_ms"), 50, digits=1, unit=" ms")
        yield Promise(name, f"{ours}: lost while asked", results.values(ours, "asked_lost"), 0, digits=0)


def outputs(name, scenario, results):
    for ours in (c for c in results.by_name if contestants.ALL[c].kind == "ours"):
        rows = results.by_name[ours]
        grown = [row["us_per_packet_500"] / row["us_per_packet_50"] for row in rows]
        yield Promise(name, f"{ours}: CPU of a packet, 500 outputs to 50", grown, 1.2)


def redundant(name, scenario, results):
    cost = by_round(results, scenario.protected, scenario.plain, "cpu_ms_per_gbit_in", lambda a, b: a / b)
    limit = 1.3 if scenario.sources == 2 else 1.5
    yield Promise(name, f"{scenario.protected}: CPU to {scenario.plain}'s", cost, limit)
    yield from nothing_lost(name, scenario, results)


def srt_in(name, scenario, results):
    peer = "srt-live-transmit-srt"
    cost = by_round(results, SRT, peer, "cpu_ms_per_gbit_in", lambda a, b: a / b)
    yield Promise(name, f"{SRT}: CPU to {peer}'s", cost, 0.4)
    yield from nothing_lost(name, scenario, results)


def srt_out(name, scenario, results):
    if scenario.receivers > 1 and SRT in results.by_name and (peer := results.best_peer(SRT)):
        cost = by_round(results, SRT, peer, "cpu_ms_per_gbit_out", lambda a, b: a / b)
        yield Promise(name, f"{SRT}: CPU to {peer}'s", cost, 0.25)
    yield from nothing_lost(name, scenario, results)


def rist(name, scenario, results):
    ours, peer = scenario.contestants
    cost = by_round(results, ours, peer, "cpu_ms_per_gbit_in", lambda a, b: a / b)
    yield Promise(name, f"{ours}: CPU to {peer}'s", cost, 0.2)
    yield from nothing_lost(name, scenario, results)


def reload(name, scenario, results):
    for ours in results.by_name:
        longest = results.values(ours, "applied_longest_ms")
        yield Promise(name, f"{ours}: last write to applied, longest", longest, 300, digits=0, unit=" ms")
    yield from nothing_lost(name, scenario, results)

"""The plots beside results.md: SVG that is read on light and on dark pages."""

import html
import math

from . import contestants, scenarios

WIDTH, LABELS, RIGHT, ROW, GAP = 760, 190, 90, 18, 40

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; fill: #24292f }
  .ours { fill: #1a7f37; stroke: #1a7f37 } .floor { fill: #8c959f; stroke: #8c959f }
  .peer { fill: #bf8700; stroke: #bf8700 } .none { fill: #afb8c1; stroke: #afb8c1 }
  rect, circle { stroke: none } .range { stroke-width: 1.5 } .wide { stroke-width: 4 }
  .spread { stroke: #24292f; stroke-width: 1.5 } .grid { stroke: #8c959f; stroke-opacity: .3 }
  text.ours, text.floor, text.peer, text.none { stroke: none }
  @media (prefers-color-scheme: dark) {
    .spread { stroke: #e6edf3 } text { fill: #9198a1 } .title { fill: #e6edf3 }
    .ours { fill: #3fb950; stroke: #3fb950 } .peer { fill: #d29922; stroke: #d29922 }
    .floor { fill: #656c76; stroke: #656c76 } .none { fill: #484f58; stroke: #484f58 }
  }
"""
LEGEND = (("ours", "mediaconnectd"), ("floor", "the leanest possible relay"), ("peer", "others"))


def _text(x, y, text, kind="", anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _document(title, blocks):
    """`blocks`: (heading, rows, draw), where draw(rows, top) returns the SVG of the rows."""
    parts, top = [_text(12, 22, title, "title")], 44
    x = 12
    for kind, text in LEGEND:
        parts.append(f'<rect x="{x}" y="{top - 10}" width="10" height="10" class="{kind}"/>')
        parts.append(_text(x + 15, top, text))
        x += 30 + 7 * len(text)
    top += 30
    for heading, rows, draw in blocks:
        parts.append(_text(12, top, heading, "title"))
        parts += draw(rows, top + 10)
        top += 10 + ROW * len(rows) + GAP
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{html.escape(title)}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _label(name, kind, y):
    return _text(LABELS - 8, y + 12, name, "title" if kind == "ours" else "", "end")


def _bars(rows, top):
    """rows: (name, kind, median, least, most)."""
    span = WIDTH - LABELS - RIGHT
    scale = span / max(most for *_, most in rows)
    parts = []
    for n, (name, kind, middle, least, most) in enumerate(rows):
        y = top + n * ROW
        parts.append(_label(name, kind, y))
        parts.append(
            f'<rect x="{LABELS}" y="{y + 2}" width="{middle * scale:.1f}" height="{ROW - 5}" rx="2" class="{kind}"/>'
        )
        low, high, half = LABELS + least * scale, LABELS + most * scale, y + ROW / 2 - 0.5
        parts.append(f'<path d="M{low:.1f} {half}H{high:.1f}" class="spread"/>')
        parts.append(_text(max(high, LABELS + middle * scale) + 6, y + 12, f"{middle:.0f}"))
    return parts


def _latencies(rows, top):
    """rows: (name, kind, p50, p99, p99.9) in µs; logarithmic."""
    lowest = 10 ** math.floor(math.log10(max(1, min(r[2] for r in rows))))
    highest = 10 ** math.ceil(math.log10(max(10 * lowest, max(r[4] for r in rows))))
    span = WIDTH - LABELS - RIGHT

    def at(value):
        return LABELS + span * math.log10(max(value, lowest) / lowest) / math.log10(highest / lowest)

    parts, bottom, decade = [], top + ROW * len(rows), lowest
    while decade <= highest:
        text = f"{decade} µs" if decade < 1000 else f"{decade // 1000} ms"
        parts.append(f'<path d="M{at(decade):.1f} {top}V{bottom}" class="grid"/>')
        parts.append(_text(at(decade), bottom + 12, text, anchor="middle"))
        decade *= 10
    for n, (name, kind, middle, most, extreme) in enumerate(rows):
        y = top + n * ROW + ROW / 2
        parts.append(_label(name, kind, y - ROW / 2))
        parts.append(f'<path d="M{at(middle):.1f} {y}H{at(most):.1f}" class="wide {kind}"/>')
        parts.append(f'<circle cx="{at(middle):.1f}" cy="{y}" r="4.5" class="{kind}"/>')
        parts.append(f'<path d="M{at(extreme):.1f} {y - 5}V{y + 5}" class="range {kind}"/>')
    return parts


def _blocks(all_results, kind_of_scenario, keys, draw, skip=()):
    blocks = []
    for name, results in all_results.items():
        if not isinstance(scenarios.ALL[name], kind_of_scenario):
            continue
        rows = []
        for contestant in results.by_name:
            kind = contestants.ALL[contestant].kind
            figures = keys(results, contestant)
            if kind not in skip and None not in figures:
                rows.append((contestant, kind, *figures))
        if rows:
            blocks.append((f"{name}: {scenarios.ALL[name].title}", rows, draw))
    return blocks


def _spread(key, factor=1.0):
    def figures(results, contestant):
        values = results.values(contestant, key)
        if not values:
            return (None,)
        return tuple(v * factor for v in (results.median(contestant, key), min(values), max(values)))

    return figures


def cpu(all_results):
    blocks = _blocks(all_results, scenarios.Relay, _spread("cpu_ms_per_gbit_out"), _bars, skip=("none",))
    return blocks and _document("CPU milliseconds for a Gbit out: less is better", blocks)


def latency(all_results):
    def figures(results, contestant):
        return tuple(results.median(contestant, key) for key in ("p50_us", "p99_us", "p999_us"))

    blocks = _blocks(all_results, scenarios.Relay, figures, _latencies)
    return blocks and _document("Latency: a dot is the median, its line ends at p99, the tick is p99.9", blocks)


def flood(all_results):
    blocks = _blocks(all_results, scenarios.Flood, _spread("lossless_rate", 1e-6), _bars)
    return blocks and _document("Highest rate without loss, Mbit/s in: more is better", blocks)


ALL = (
    ("CPU for a Gbit out", "cpu.svg", cpu),
    ("Latency", "latency.svg", latency),
    ("Highest rate without loss", "flood.svg", flood),
)

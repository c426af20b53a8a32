// All flows at a glance.

import { h, patch } from "./dom.js";
import { LEVELS, count, level, rateParts, verdict } from "./figures.js";

/** From how many flows on tiles are small. */
const DENSE = 60;
/** For how long a frame may fill tiles, in ms: a page that is busy feels dead. */
const SLICE = 6;

const filter = { level: "all", text: "", order: "worst" };

const order = {
  worst: (a, b) => LEVELS.indexOf(a.level) - LEVELS.indexOf(b.level) || (a.row.name < b.row.name ? -1 : 1),
  name: (a, b) => (a.row.name < b.row.name ? -1 : 1),
  bitrate: (a, b) => b.row["bitrate-bps"] - a.row["bitrate-bps"] || (a.row.name < b.row.name ? -1 : 1),
};

/** What the page says of each flow: its level, and all that is searched. */
export function judge(model) {
  return model.overview.flows.map((row) => {
    const about = model.about[row.name] || {};
    return { row, about, level: level(row.state, row.worst && row.worst.severity), minute: model.minutes.get(row.name) || [] };
  });
}

const groups = [["all", "all flows", () => true], ["alarm", "in alarm", (l) => l === "critical" || l === "major"],
  ["minor", "warned", (l) => l === "minor"], ["ok", "well", (l) => l === "ok" || l === "start"], ["off", "standby", (l) => l === "off"]];

/** The filters of the bar on top. */
export function filters(flows, again) {
  const tones = { alarm: "critical", minor: "minor", ok: "ok", off: "off" };
  return h("div", { class: "filters", role: "group", "aria-label": "Show flows" }, groups.map(([key, words, fits]) => {
    const n = flows.filter((flow) => fits(flow.level)).length;
    return h("button", {
      key, type: "button", class: `${tones[key] || ""}${n ? "" : " none"}`, "aria-pressed": String(filter.level === key),
      on: { click: () => { filter.level = key; again(); } },
    }, h("b", {}, count(n)), words);
  }));
}

/** Search and order, of the bar on top. */
export function tools(again) {
  return [
    h("input", {
      key: "search", type: "search", placeholder: "Find a flow", "aria-label": "Find flows by name, description or tag",
      value: filter.text, on: { input: (event) => { filter.text = event.target.value; again(); } },
    }),
    h("select", { key: "order", "aria-label": "Order", on: { change: (event) => { filter.order = event.target.value; again(); } } },
      [["worst", "Worst first"], ["name", "By name"], ["bitrate", "By bit rate"]].map(([value, words]) =>
        h("option", { value, selected: filter.order === value }, words))),
  ];
}

/** The tiles that are to be filled, by the flow's name; what was not filled when the next event came is then. */
let waiting = new Map();
let filling = false;

/** Show them: the tiles in their order at once, and what is in them in slices. */
export function show(main, flows) {
  const fits = groups.find(([key]) => key === filter.level)[2];
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const text = ({ row, about }) => [row.name, about.description, ...Object.entries(about.tags || {}).flat()].join("\n").toLowerCase();
  const wanted = flows.filter((flow) => fits(flow.level) && (!words.length || words.every((word) => text(flow).includes(word))));
  wanted.sort(order[filter.order]);
  if (!wanted.length) {
    const none = flows.length ? ["No flow is like that", "Choose all flows, or search for something else."]
      : ["No flows yet", "A file NAME.toml in flows.d is a flow; it appears here as soon as it is there."];
    patch(main, [h("section", { class: "empty", key: "empty" }, h("h2", {}, none[0]), h("p", {}, none[1]))]);
    return;
  }
  const next = new Map(wanted.map((flow) => [flow.row.name, flow]));
  const place = (name) => (item) => { const flow = next.get(name); if (flow) flow.item = item; };
  const list = wanted.map(({ row }) => h("li", { key: row.name, drawn: place(row.name) }));
  patch(main, [h("ul", { class: flows.length > DENSE ? "grid dense" : "grid", key: "grid", "aria-label": "Flows" }, list)]);
  waiting = next;
  if (!filling) requestAnimationFrame(fill);
  filling = true;
}

function fill() {
  const start = performance.now();
  for (const [name, flow] of waiting) {
    waiting.delete(name);
    if (flow.item.isConnected) patch(flow.item, [tile(flow)]);
    if (performance.now() - start > SLICE) break;
  }
  filling = waiting.size > 0;
  if (filling) requestAnimationFrame(fill);
}

/** The last minute of the bit rate, a value a second; the newest is at the right edge. The line leaves the picture below
 * it, so that it is filled to the bottom. */
function sparkline(minute) {
  const most = Math.max(...minute, 1);
  const first = 60 - minute.length;
  const points = minute.map((value, n) => `${(first + n) * 10},${96 - Math.round((value / most) * 88)}`);
  const edge = minute.length ? points[points.length - 1].split(",")[1] : 0;
  return h("svg", { viewBox: "0 0 590 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("polyline", { points: minute.length ? `${first * 10 - 20},120 ${points.join(" ")} 620,${edge} 620,120` : "" }));
}

function tile({ row, about, level: tone, minute }) {
  const [value, unit] = rateParts(row["bitrate-bps"]);
  const word = verdict(tone, row.state, row["source-state"]);
  const lost = row["packets-unrecovered"];
  return h("a", { key: "tile", class: `tile ${tone}`, href: `#/flow/${encodeURIComponent(row.name)}`, "data-flow": row.name },
    h("header", {}, h("h2", {}, row.name), h("span", { class: `pill ${tone}` }, word)),
    h("p", { class: "about" }, about.description || Object.entries(about.tags || {}).map(([key, tag]) => `${key} ${tag}`).join(", ")),
    h("div", { class: "middle" },
      h("span", { class: "rate" }, value, h("small", {}, unit)),
      sparkline(minute)),
    h("p", { class: "facts" },
      onAir(row),
      h("span", { key: "out", class: row.failing ? "bad" : "" }, h("b", {}, `${row.sending}/${row.outputs}`), row.outputs === 1 ? " output" : " outputs"),
      lost ? h("span", { key: "lost", class: "warn" }, h("b", {}, count(lost)), " lost") : null,
      row.stale ? h("span", { key: "stale", class: "bad" }, "file rejected") : null),
    row.worst && tone !== "ok" ? h("p", { class: "worst", key: "worst" }, row.worst.message,
      row.conditions > 1 ? ` (and ${row.conditions - 1} more)` : "") : null);
}

function onAir(row) {
  if (row.legs) {
    const [active, all] = row.legs;
    return h("span", { key: "air", class: active ? (active < all ? "warn" : "") : "bad" }, h("b", {}, `${active}/${all}`), " legs");
  }
  return h("span", { key: "air" }, row.source ? ["from ", h("b", {}, row.source)] : "no source");
}

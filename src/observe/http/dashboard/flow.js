// One flow: its sources side by side, its outputs and their peers, what was, and what happened.

import { h, patch } from "./dom.js";
import { count, level, moment, ms, ofOutput, ofSource, rate, rateParts, span, verdict } from "./figures.js";
import { clock, draw, stepAt } from "./plot.js";

const RANGES = [["10m", "10 min", 5000], ["3h", "3 hours", 10000]];
const MOST_EVENTS = 200;

let page = null;

/** The page is another one now, or nobody looks. */
export function leave() {
  page?.events?.close();
  page = null;
}

function enter(name, again) {
  leave();
  page = { name, again, range: RANGES[0], doc: null, history: null, events: null, happened: [], at: null, asked: -Infinity, looked: -Infinity };
  const mine = page;
  // Those of the last hours, then each as it happens.
  mine.events = new EventSource("/v1/events?replay=true");
  mine.events.onerror = () => { if (mine.events.readyState === EventSource.CLOSED) mine.events = null; };
  const heard = (message) => {
    const event = JSON.parse(message.data);
    if (event.flow !== name) return;
    mine.happened = [event, ...mine.happened].slice(0, MOST_EVENTS);
    again();
  };
  for (const kind of ["event", "alarm.raised", "alarm.cleared"]) mine.events.addEventListener(kind, heard);
}

async function read(mine, path, taken) {
  try {
    const answer = await fetch(path);
    const document = answer.ok ? await answer.json() : null;
    if (mine === page) { taken(document, answer.status); mine.again(); }
  } catch { /* The bar on top says that nothing comes. */ }
}

function refresh(mine) {
  const now = performance.now();
  const path = `/v1/flows/${encodeURIComponent(mine.name)}`;
  if (now - mine.looked > 900) {
    mine.looked = now;
    read(mine, path, (document, status) => { mine.doc = document || (status === 404 ? "gone" : mine.doc); });
  }
  if (now - mine.asked > mine.range[2]) {
    mine.asked = now;
    const range = mine.range;
    read(mine, `${path}/history?since=${range[0]}`, (document) => { if (range === mine.range) mine.history = document; });
  }
}

/** Show it; `known` is what the overview says of it. */
export function show(main, name, known, again) {
  if (!page || page.name !== name) enter(name, again);
  const mine = page;
  refresh(mine);
  const { doc } = mine;
  if (doc === "gone") {
    patch(main, [h("section", { class: "empty", key: "gone" }, h("h2", {}, "There is no such flow"), h("p", {}, "Its file is gone, or never was. ", h("a", { href: "#/" }, "All flows")))]);
    return;
  }
  if (!doc) return;
  const worst = doc.conditions[0];
  const tone = level(doc.state, worst && worst.severity);
  const shown = known && known.row["source-state"];
  const sources = Object.entries(doc.sources);
  patch(main, [h("article", { class: "flow", key: `flow ${name}` },
    h("header", {}, h("a", { class: "back", href: "#/" }, "← All flows"), h("h1", {}, doc.name),
      h("span", { class: `pill ${tone}` }, verdict(tone, doc.state, shown)),
      tags(doc.tags), doc.description ? h("p", { class: "about", key: "about" }, doc.description) : null),
    conditions(doc.conditions),
    now(doc, sources),
    thumbnail(doc),
    plots(mine, sources.map(([source]) => source)),
    h("section", { class: "legs", key: "legs", "aria-label": "Sources" }, sources.map(([source, s], n) => leg(source, s, n, doc))),
    outputs(doc),
    sources.map(([source, s]) => stream(source, s["transport-stream"])),
    stream("flow", doc["transport-stream"]),
    happenings(mine))]);
}

const tags = (all) => Object.keys(all).length
  ? h("ul", { class: "tags", key: "tags", "aria-label": "Tags" }, Object.entries(all).map(([key, value]) => h("li", { key }, `${key} `, h("b", {}, value)))) : null;

/** What is wrong, of a flow or of the appliance. */
export function conditions(all) {
  if (!all.length) return null;
  return h("ul", { class: "conditions", key: "conditions", "aria-label": "Conditions" }, all.map((c, n) =>
    h("li", { key: `${c.code} ${n}`, class: c.severity }, h("span", { class: `pill ${c.severity}` }, c.severity), c.message,
      " ", h("time", { datetime: c.since }, `since ${moment(c.since)}`), c.help ? h("p", { class: "help" }, c.help) : null)));
}

const figure = (name, value, unit, tone) => h("div", { key: name, class: tone || "" }, h("dt", {}, name), h("dd", {}, value, unit ? h("small", {}, ` ${unit}`) : null));

function now(doc, sources) {
  const on = sources.find(([, s]) => s["on-air"]) || sources[0];
  const { merge, failover } = doc;
  const lost = merge ? merge["packets-unrecovered"] : sources.reduce((sum, [, s]) => sum + s["packets-unrecovered"], 0);
  const sending = Object.values(doc.outputs).filter((o) => o.state === "sending").length;
  const delay = doc["added-delay-ms"];
  const last = failover && failover["last-switch"];
  return h("section", { class: "panel", key: "now" }, h("dl", { class: "big" },
    on ? figure("bit rate", ...rateParts(on[1]["bitrate-bps"])) : null,
    merge ? figure("legs merged", `${merge["active-legs"]}/${sources.length}`, merge.class ? `class ${merge.class}` : "", merge["active-legs"] < sources.length ? "warn" : "")
      : on ? figure("on air", on[1]["on-air"] ? on[0] : "none", failover && failover.primary ? `primary ${failover.primary}` : "") : null,
    merge ? figure("skew", ms(merge["skew-ms"]), `window ${ms(merge["delay-ms"])}`) : null,
    figure("lost for good", count(lost), "packets", lost ? "warn" : ""),
    figure("outputs", `${sending}/${Object.keys(doc.outputs).length}`, "sending"),
    delay ? figure("delay added", ms(delay.p50), `p99 ${ms(delay.p99)}`) : null,
    failover && !merge ? figure("switches", count(failover.switches), last ? `last ${moment(last.at)} to ${last.to}: ${last.reason}` : "") : null,
    doc["operator-override"] ? figure("operator", doc["operator-override"].action, `by ${doc["operator-override"].by} since ${moment(doc["operator-override"].since)}`, "warn") : null));
}

/** Where there is one: only from this daemon, whatever the document says. */
function thumbnail(doc) {
  const picture = doc.thumbnail;
  if (!picture || typeof picture.path !== "string" || !/^\/v1\/[^/]/.test(picture.path)) return null;
  return h("section", { class: "panel", key: "thumbnail" }, h("h2", {}, "Picture ", h("small", {}, picture.time ? moment(picture.time) : "")),
    h("img", { class: "thumb", src: `${picture.path}?at=${encodeURIComponent(picture.time || "")}`, alt: `The picture of ${doc.name}` }));
}

const tone = (n) => `s${n % 6}`;

function plots(mine, sources) {
  const history = mine.history;
  const ranges = h("div", { class: "ranges", role: "group", "aria-label": "How far back" }, RANGES.map((range) => h("button", {
    key: range[0], type: "button", "aria-pressed": String(mine.range === range),
    on: { click: () => { Object.assign(mine, { range, history: null, asked: -Infinity, at: null }); mine.again(); } },
  }, range[1])));
  const body = [];
  if (history && history.steps) {
    const base = { steps: history.steps, step: history["step-seconds"], until: Date.parse(history.until), at: mine.at };
    const lines = (name, scale = 1) => sources.map((source, n) => {
      const values = ((history.sources[source] || {})[name] || []).map((value) => (value === null ? null : value * scale));
      return { name: source, colour: tone(n), values };
    }).filter((line) => line.values.length);
    const add = (title, name, options) => {
      const plot = { ...base, lines: lines(name), ...options };
      if (plot.lines.length) body.push(chart(mine, title, name, plot));
    };
    add("Bit rate", "bitrate-bps", { from0: true, unit: (v) => rate(v).replace("/s", ""), tall: true });
    add("Packets lost for good", "packets-unrecovered", { from0: true, bars: true, unit: whole });
    add("Packets recovered", "packets-recovered", { from0: true, bars: true, unit: whole });
    add("Skew of legs", "skew-ms", { unit: ms });
    add("Round trip", "round-trip-ms", { from0: true, unit: ms });
    add("Jitter", "jitter-ms", { from0: true, unit: ms });
  }
  return h("section", { class: "panel plots", key: "plots" }, h("header", {}, h("h2", {}, "Over time"), ranges, legend(mine, sources)),
    body.length ? body : h("p", { class: "dim" }, history ? "No media has come since the daemon started." : "…"));
}

const whole = (value) => (Number.isInteger(value) ? count(value) : "");

function chart(mine, title, name, plot) {
  const known = plot.lines.flatMap((line) => line.values.filter((value) => value !== null));
  const words = known.length ? `${title}, from ${plot.unit(Math.min(...known))} to ${plot.unit(Math.max(...known))}; arrow keys point at a time` : title;
  const point = (at) => { mine.at = at; mine.again(); };
  const keys = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 };
  return h("figure", { key: name, class: plot.tall ? "" : "small" }, h("figcaption", {}, title),
    h("canvas", {
      role: "img", tabindex: "0", "aria-label": words, drawn: (canvas) => draw(canvas, plot),
      on: {
        pointermove: (event) => point(stepAt(event.target, event.clientX, plot.steps)), pointerleave: () => point(null), blur: () => point(null),
        keydown: (event) => {
          if (!(event.key in keys)) return;
          event.preventDefault();
          point(Math.max(0, Math.min(plot.steps - 1, (mine.at ?? plot.steps) + keys[event.key])));
        },
      },
    }));
}

function legend(mine, sources) {
  const { history, at } = mine;
  const pointed = history && at !== null && at < history.steps;
  const time = pointed ? clock(Date.parse(history.until) - (history.steps - 1 - at) * history["step-seconds"] * 1000) : null;
  return h("p", { class: "legend", "aria-live": at === null ? "off" : "polite" }, time ? h("b", { key: "time" }, `${time} UTC`) : null, sources.map((source, n) => {
    const series = (history && history.sources[source]) || {};
    const value = (name) => (pointed && series[name] ? series[name][at] : undefined);
    const [bps, lost] = [value("bitrate-bps"), value("packets-unrecovered")];
    return h("span", { key: `source ${source}` }, h("i", { class: `c${n % 6}` }), source, typeof bps === "number" ? h("b", {}, ` ${rate(bps)}`) : null, lost ? ` ${count(lost)} lost` : null);
  }));
}

const pair = (name, value, tone) => (value === null || value === undefined || value === "" ? null : [h("dt", { key: `${name} name` }, name), h("dd", { key: name, class: tone || "" }, value)]);

function leg(name, s, n, doc) {
  const tone = ofSource(s.state);
  const [value, unit] = rateParts(s["bitrate-bps"]);
  const part = s.leg;
  const skew = part && part["skew-ms"];
  const share = s.packets ? (100 * s["packets-lost"]) / (s.packets + s["packets-lost"]) : 0;
  const dropped = [["denied", s["packets-denied"]], ["invalid", s["packets-invalid"]], ["over bit rate", s["packets-over-bitrate"]],
    ["by the kernel", s["packets-kernel-dropped"]], ["undecrypted", s["packets-undecrypted"]]].filter(([, packets]) => packets);
  return h("section", { class: `panel leg ${tone}`, key: name, "aria-label": `Source ${name}` },
    h("header", {}, h("h3", {}, h("span", { class: `key c${n % 6}`, "aria-hidden": "true" }), name), s["on-air"] ? h("span", { class: "air", key: "air" }, Object.keys(doc.sources).length > 1 ? (doc.merge ? "merged" : "on air") : "on air") : null,
      h("span", { class: "dim" }, s.protocol), h("span", { class: `pill ${tone}` }, s.state)),
    s.description ? h("p", { class: "dim", key: "about" }, s.description) : null,
    h("p", { class: "rate" }, value, h("small", {}, unit)),
    h("dl", { class: "pairs" },
      pair(s.protocol === "srt-caller" ? "remote" : "bind", s.bind),
      pair("lost", `${count(s["packets-lost"])} (${share.toFixed(share && share < 0.1 ? 4 : 2)} %), ${count(s["packets-recovered"])} recovered`),
      pair("lost for good", count(s["packets-unrecovered"]), s["packets-unrecovered"] ? "warn" : ""),
      skew ? pair("skew", `${ms(skew.now)} (${ms(skew.min)} to ${ms(skew.max)})`) : null,
      part ? pair("of the merge", `${count(part.first)} first, ${count(part.unique)} only here${part.aside ? ", set aside" : ""}`, part.aside ? "bad" : "") : null,
      s["jitter-ms"] === undefined ? null : pair("jitter", ms(s["jitter-ms"])),
      s["round-trip-ms"] === undefined ? null : pair("round trip", ms(s["round-trip-ms"])),
      s["arq-requests"] === undefined ? null : pair("asked again", `${count(s["arq-requests"])}, ${count(s["arq-recovered"] || 0)} came`),
      s.fec ? pair("FEC", `${s.fec.columns || "?"} × ${s.fec.rows || "?"}, recovered ${count(s.fec["recovered-by-column"])} by column, ${count(s.fec["recovered-by-row"])} by row`) : null,
      pair("order", [["reordered", s["packets-reordered"]], ["duplicate", s["packets-duplicate"]], ["late", s["packets-late"]]].filter(([, p]) => p).map(([w, p]) => `${count(p)} ${w}`).join(", ")),
      pair("dropped", dropped.map(([w, p]) => `${count(p)} ${w}`).join(", "), "warn"),
      s["sync-errors"] ? pair("sync errors", count(s["sync-errors"]), "warn") : null,
      s["calls-refused"] ? pair("calls refused", `${count(s["calls-refused"])}: ${Object.entries(s["refused-by-reason"] || {}).map(([why, times]) => `${why} ${times}`).join(", ")}`, "warn") : null,
      pair("packets", count(s.packets)),
      s.peers.some((peer) => peer.srt) ? null : pair("from", s.peers.map((peer) => peer.address).join(", "))),
    peers(s.peers));
}

const cell = (value, options) => h("td", options || {}, value ?? "");
const head = (columns) => h("thead", {}, h("tr", {}, columns.map(([name, num]) => h("th", { scope: "col", class: num ? "num" : "" }, name))));

/** Connections by SRT, each with its figures. */
function peers(all) {
  const srt = all.filter((peer) => peer.srt);
  if (!srt.length) return null;
  return h("div", { class: "scroll", key: "peers" }, h("table", {}, head([["Peer"], ["RTT", 1], ["Latency", 1], ["Buffer", 1], ["Lost", 1], ["Sent again", 1], ["Cipher"], ["Since"]]),
    h("tbody", {}, srt.map((peer) => h("tr", { key: peer.address },
      cell([peer.address, peer.srt["stream-id"] ? h("div", { class: "dim" }, peer.srt["stream-id"]) : null]),
      cell(peer.srt["rtt-ms"] === undefined ? "" : ms(peer.srt["rtt-ms"]), { class: "num" }), cell(ms(peer.srt["latency-ms"]), { class: "num" }),
      cell(ms(peer.srt["buffer-ms"] || 0), { class: "num" }), cell(count(peer.srt["packets-lost"]), { class: `num ${peer.srt["packets-lost"] ? "warn" : ""}` }),
      cell(count(peer.srt["packets-retransmitted"]), { class: "num" }), cell(peer.srt.cipher), cell(moment(peer.since)))))));
}

function outputs(doc) {
  const all = Object.entries(doc.outputs);
  return h("section", { class: "panel", key: "outputs" }, h("h2", {}, "Outputs"), !all.length ? h("p", { class: "dim" }, "None.") : h("div", { class: "scroll" },
    h("table", {}, head([["Output"], ["State"], ["Protocol"], ["Destination"], ["Bit rate", 1], ["Packets", 1], ["Dropped", 1], ["Notes"]]),
      h("tbody", {}, all.map(([name, o]) => h("tr", { key: name },
        cell([h("b", {}, name), o.description ? h("div", { class: "dim" }, o.description) : null]), cell(h("span", { class: `pill ${ofOutput(o.state)}` }, o.state)),
        cell(o.protocol), cell([o.destination, (o.legs || []).map((one) => h("div", { class: "dim" }, `leg ${one.destination}${one.open ? "" : ", not open"}`))]),
        cell(rate(o["bitrate-bps"]), { class: "num" }), cell(count(o.packets), { class: "num" }),
        cell(count(o["packets-dropped"]), { class: `num ${o["packets-dropped"] ? "warn" : ""}` }), cell(notes(o))))))),
    all.filter(([, o]) => o.peers.some((peer) => peer.srt)).map(([name, o]) => h("section", { key: `peers ${name}` }, h("h3", {}, `Receivers of ${name}`), peers(o.peers))));
}

function notes(o) {
  const lost = o["packets-lost"] ? [`${count(o["packets-lost"])} reported lost`] : [];
  const again = o["packets-retransmitted"] ? [`${count(o["packets-retransmitted"])} sent again`] : [];
  const callers = o["max-callers"] === undefined ? [] : [`${o.peers.length} of ${o["max-callers"]} receivers`];
  const word = o["operator-override"];
  return [...callers, ...lost, ...again, ...Object.entries(o.errors).map(([error, times]) => `${error} ${count(times)}`),
    ...(o["fec-packets"] === undefined ? [] : [`FEC ${count(o["fec-packets"])}`]), ...(word ? [`${word.action} by ${word.by}`] : [])].join("; ");
}

/** The checks of TR 101 290, first priority first. */
const CHECKS = ["ts_sync_loss", "sync_byte", "pat", "continuity_count", "pmt", "pid", "transport", "crc", "pcr_repetition", "pcr_discontinuity",
  "pcr_accuracy", "pts", "cat"];

/** What the analysis of a transport stream has found. */
function stream(name, ts) {
  if (!ts) return null;
  const tone = (check) => (ts["in-error"].includes(check) ? "critical" : ts.errors[check] ? "minor" : "ok");
  const nulls = ts["null-share"] === undefined ? "" : `, ${(100 * ts["null-share"]).toFixed(1)} % null packets`;
  return h("section", { class: "panel", key: `ts ${name}` }, h("h2", {}, `Transport stream of ${name} `, h("small", {}, `${rate(ts["bitrate-bps"])}${nulls}`)),
    h("ul", { class: "checks", "aria-label": "Errors by TR 101 290" }, CHECKS.map((check) =>
      h("li", { key: check, class: tone(check) }, check.replaceAll("_", " "), h("b", {}, count(ts.errors[check] || 0))))),
    ts.programs.map((program) => h("div", { class: "scroll", key: `program ${program.number}` },
      h("h3", {}, [program.number, program.name, program.provider].filter((word) => word !== undefined && word !== "").join(" · ")), rows(program.streams))));
}

function rows(list) {
  const columns = [...new Set(list.flatMap(Object.keys))];
  const words = (name, value) => (name === "bitrate-bps" ? rate(value) : String(value ?? ""));
  const head_of = (name) => (name === "bitrate-bps" ? "bit rate" : name.replaceAll("-", " "));
  return h("table", {}, head(columns.map((name) => [head_of(name)])), h("tbody", {}, list.map((one) =>
    h("tr", { key: one.pid }, columns.map((name) => cell(words(name, one[name])))))));
}

function happenings(mine) {
  if (!mine.happened.length) return null;
  return h("section", { class: "panel", key: "events" }, h("h2", {}, "Events"), h("ol", { class: "events", role: "log", tabindex: "0", "aria-label": "Events, newest first" }, mine.happened.map((event) =>
    h("li", { key: `${event.id} ${event.type}` }, h("time", { datetime: event.time }, moment(event.time || "")), h("span", { class: `pill ${event.severity || "info"}` }, event.severity || "info"), h("span", {}, event.message || event["detail-type"] || "")))));
}

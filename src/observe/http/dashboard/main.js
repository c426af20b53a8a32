// The dashboard: what comes by server-sent events, and which page shows it. It reads, and never acts.

import { h, patch } from "./dom.js";
import { span } from "./figures.js";
import { filters, judge, show as showOverview, tools } from "./overview.js";
import { show as showFlow, leave as leaveFlow, conditions } from "./flow.js";

const [bar, banner, main, said] = ["top", "banner", "main", "said"].map((id) => document.getElementById(id));
/** A page that has heard nothing for so long says so. */
const SILENCE = 5000;
/** When to try again what was refused. */
const AGAIN = 3000;

const model = { overview: null, about: {}, generation: -1, minutes: new Map(), heard: 0, second: "" };
let stream = null;
let levels = new Map();

function take(overview) {
  model.heard = performance.now();
  if (overview.about) {
    model.about = overview.about;
    model.generation = overview.generation;
  } else if (overview.generation !== model.generation) {
    // An event with what is new was missed.
    model.generation = overview.generation;
    fetch("/v1/overview").then((answer) => answer.json()).then(take).catch(() => {});
  }
  const fresh = overview.time !== model.second;
  model.second = overview.time;
  const minutes = new Map();
  for (const row of overview.flows) {
    const before = model.minutes.get(row.name);
    const minute = before || (model.about[row.name] || {})["minute-kbps"] || [];
    minutes.set(row.name, fresh || !before ? [...minute.slice(-59), row["bitrate-bps"] / 1000] : minute);
  }
  Object.assign(model, { overview, minutes });
  render();
}

function listen() {
  if (stream || document.hidden) return;
  stream = new EventSource("/v1/overview/live");
  stream.addEventListener("overview", (event) => take(JSON.parse(event.data)));
  // A connection that breaks is made again by the browser, one that was refused is not.
  const mine = stream;
  mine.onerror = () => {
    if (mine !== stream || mine.readyState !== EventSource.CLOSED) return;
    stream = null;
    setTimeout(listen, AGAIN);
  };
}

// A browser has few connections for a host: a page that nobody sees holds none.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return listen();
  stream?.close();
  stream = null;
  leaveFlow();
});

const named = () => {
  const match = /^#\/flow\/(.+)$/.exec(location.hash);
  try { return match && decodeURIComponent(match[1]); } catch { return null; }
};

let queued = false;
/** At most once a frame. */
function render() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => { queued = false; draw(); });
}

function draw() {
  const { overview } = model;
  const silent = performance.now() - model.heard > SILENCE;
  if (!overview) {
    patch(bar, [brand(), h("div", { class: "tools" }, link(silent))]);
    return;
  }
  const flows = judge(model);
  const flow = named();
  patch(bar, [brand(overview), filters(flows, () => { if (named()) location.hash = "#/"; render(); }),
    h("div", { class: "tools" }, flow ? null : tools(render), link(silent))]);
  patch(banner, [conditions(overview.conditions || [])]);
  const alarms = flows.filter((f) => f.level === "critical" || f.level === "major").length;
  document.title = flow ? `${flow} · mediaconnect` : `${alarms ? `(${alarms}) ` : ""}mediaconnect ${overview.host}`;
  if (flow) showFlow(main, flow, flows.find((f) => f.row.name === flow), render);
  else {
    leaveFlow();
    showOverview(main, flows);
  }
  announce(flows);
}

/** Tell a screen reader what became worse or well again. */
function announce(flows) {
  const bad = (level) => level === "critical" || level === "major";
  const now = new Map(flows.map((flow) => [flow.row.name, flow.level]));
  const news = flows.filter(({ row, level }) => levels.has(row.name) && bad(levels.get(row.name)) !== bad(level));
  if (news.length) said.textContent = news.slice(0, 5).map(({ row, level }) => `${row.name} is ${bad(level) ? level : "well again"}`).join(", ");
  levels = now;
}

const brand = (overview) => h("a", { class: "brand", href: "#/", "aria-label": "All flows" },
  h("img", { src: "/dashboard/icon.svg", alt: "" }),
  h("span", {}, overview ? overview.host : "mediaconnect", h("small", {}, overview ? `mediaconnect ${overview.version}, up ${span(overview["uptime-seconds"])}` : "connecting")));

function link(silent) {
  const time = model.overview ? `${model.overview.time.slice(11, 19)} UTC` : "";
  return silent ? h("span", { class: "link broken", role: "alert" }, model.overview ? `no word since ${time}` : "the daemon does not answer")
    : h("span", { class: "link" }, time || "connecting");
}

addEventListener("resize", render);
matchMedia("(prefers-color-scheme: light)").addEventListener("change", render);
addEventListener("hashchange", () => { scrollTo(0, 0); render(); main.focus({ preventScroll: true }); });
addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !named()) { event.preventDefault(); bar.querySelector("input")?.focus(); }
  if (event.key === "Escape" && named()) location.hash = "#/";
});
// What says that nothing comes must not wait for something to come.
setInterval(render, 1000);
listen();

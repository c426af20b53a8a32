// How figures and states are written: as mediaconnectctl writes them.

const grouped = new Intl.NumberFormat("en");

export const count = (n) => grouped.format(n);

/** Three figures and their unit. */
export function rateParts(bps) {
  if (bps < 1e3) return [String(Math.round(bps)), "bit/s"];
  const [value, unit] = bps < 1e6 ? [bps / 1e3, "kbit/s"] : bps < 1e9 ? [bps / 1e6, "Mbit/s"] : [bps / 1e9, "Gbit/s"];
  return [value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0), unit];
}

export const rate = (bps) => rateParts(bps).join(" ");

export const ms = (value) => `${value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0)} ms`;

/** In at most two units. */
export function span(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const [d, h, m] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s % 60} s` : `${s} s`;
}

/** A moment of the documents, as the time of day in UTC, with the day where it is another. */
export function moment(text) {
  const [day, time] = text.split("T");
  const clock = (time || "").slice(0, 8);
  return day === new Date().toISOString().slice(0, 10) ? clock : `${day} ${clock}`;
}

/** Worst first. */
export const LEVELS = ["critical", "major", "minor", "start", "ok", "off"];

/** How a flow fares, by its state and its worst condition. */
export function level(state, severity) {
  if (state === "standby") return "off";
  if (state === "error" || severity === "critical") return "critical";
  if (severity === "major" || severity === "minor") return severity;
  return state === "starting" ? "start" : "ok";
}

/** The same in a word. */
export function verdict(level, state, sourceState) {
  if (level === "off") return "standby";
  if (level === "critical") {
    if (state === "error") return "error";
    return { lost: "lost", idle: "no input", connecting: "no input" }[sourceState] || "critical";
  }
  return { start: "starting", ok: "ok" }[level] || level;
}

export const ofSource = (state) => ({ receiving: "ok", lost: "critical", connecting: "start" })[state] || "off";
export const ofOutput = (state) => ({ sending: "ok", error: "critical", connecting: "start" })[state] || "off";

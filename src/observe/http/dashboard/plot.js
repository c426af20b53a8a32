// Figures over time on a canvas.

let palette = null;
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => { palette = null; });

function colour(name) {
  palette ??= { style: getComputedStyle(document.documentElement), known: {} };
  return (palette.known[name] ??= palette.style.getPropertyValue(`--${name}`).trim());
}

/** The canvas at the screen's resolution, cleared; null where it has no size. */
function open(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return null;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const to = canvas.getContext("2d");
  to.setTransform(ratio, 0, 0, ratio, 0, 0);
  to.clearRect(0, 0, width, height);
  return { to, width, height };
}

const LEFT = 62;
const BOTTOM = 18;
const FONT = "11px system-ui, sans-serif";

/** `plot`: `lines` of { values, colour }, `steps`, `step` in seconds, `until` in ms, `from0`, `bars`, `unit` (a function
 * to text) and `at` (the step that is pointed at, or null). */
export function draw(canvas, plot) {
  const room = open(canvas);
  if (!room) return;
  const { to, width, height } = room;
  const [right, base] = [width - 4, height - BOTTOM];
  const all = plot.lines.flatMap((line) => line.values).filter((value) => value !== null);
  let [least, most] = [Math.min(...all, plot.from0 ? 0 : Infinity), Math.max(...all, plot.from0 ? 0 : -Infinity)];
  if (!all.length) [least, most] = [0, 1];
  if (most === least) most = least + (plot.bars ? 4 : Math.abs(least) || 1);
  const grid = tick((most - least) / 3);
  [least, most] = [Math.floor(least / grid) * grid, Math.ceil((most * 1.0001) / grid) * grid];
  const x = (n) => LEFT + ((n + (plot.bars ? 0.5 : 0)) / Math.max(1, plot.steps - (plot.bars ? 0 : 1))) * (right - LEFT);
  const y = (value) => base - ((value - least) / (most - least)) * (base - 6);

  to.font = FONT;
  to.lineWidth = 1;
  to.textBaseline = "middle";
  to.textAlign = "right";
  for (let value = least; value <= most + grid / 2; value += grid) {
    to.fillStyle = colour("faint-line");
    to.fillRect(LEFT, Math.round(y(value)), right - LEFT, 1);
    to.fillStyle = colour("dim");
    to.fillText(plot.unit(value), LEFT - 7, y(value));
  }
  const total = plot.steps * plot.step;
  const every = total > 5400 ? 1800 : total > 1200 ? 600 : 60;
  const dense = Math.max(1, Math.ceil((total / every) / ((right - LEFT) / 60)));
  to.textBaseline = "alphabetic";
  to.textAlign = "center";
  const first = Math.ceil((plot.until / 1000 - total) / every) * every;
  for (let at = first, n = 0; at <= plot.until / 1000; at += every, n += 1) {
    if (n % dense) continue;
    const place = right - ((plot.until / 1000 - at) / total) * (right - LEFT);
    to.fillStyle = colour("faint-line");
    to.fillRect(Math.round(place), 4, 1, base - 4);
    to.fillStyle = colour("dim");
    if (place > LEFT + 16 && place < right - 14) to.fillText(clock(at * 1000).slice(0, 5), place, height - 4);
  }

  for (const line of plot.lines) {
    to.strokeStyle = to.fillStyle = colour(line.colour);
    if (plot.bars) {
      const wide = Math.max(1.5, (right - LEFT) / plot.steps - 0.5);
      line.values.forEach((value, n) => value && to.fillRect(x(n) - wide / 2, y(value), wide, Math.max(1.5, base - y(value))));
      continue;
    }
    to.lineWidth = 1.6;
    to.lineJoin = "round";
    to.beginPath();
    let down = false;
    line.values.forEach((value, n) => {
      if (value !== null) to[down ? "lineTo" : "moveTo"](x(n), y(value));
      down = value !== null;
    });
    to.stroke();
  }
  if (plot.at !== null) {
    to.fillStyle = colour("dim");
    to.fillRect(Math.round(x(plot.at)), 2, 1, base - 2);
  }
}

/** The step below a place on the canvas. */
export function stepAt(canvas, clientX, steps) {
  const box = canvas.getBoundingClientRect();
  const part = (clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - 4);
  return Math.max(0, Math.min(steps - 1, Math.round(part * (steps - 1))));
}

/** The time of day in UTC. */
export const clock = (time) => new Date(time).toISOString().slice(11, 19);

/** The least of 1, 2 and 5 times a power of ten that is not less. */
function tick(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((n) => n * power >= rough * 0.999) * power;
}

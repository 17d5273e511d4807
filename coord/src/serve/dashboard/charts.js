// The last hour as small charts: SVG, a line or two each, read by pointer or arrow keys.

import { bytes, count, duration, element, percent, rate, say, time } from "./elements.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 300;
const TALL = 72;
const POINT_S = 10;
const HOUR_MS = 3_600_000;
const MINUTES = 60;

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Lines: what a point says, null where it says nothing; and how that is written.
const CHARTS = [
  { title: "Compiles a second", lines: [["compiles", (it) => it.tasks / POINT_S]], write: rate },
  { title: "Time of a task", lines: [["p50", (it) => it.p50_ms || null], ["p99", (it) => it.p99_ms || null]], write: duration },
  { title: "Waiting tasks", lines: [["waiting", (it) => it.queued]], write: count },
  { title: "Slots", lines: [["busy", (it) => it.slots_busy], ["offered", (it) => it.slots]], write: count },
  { title: "Cache hits", lines: [["of lookups", (it) => (it.cache_hits + it.cache_misses ? it.cache_hits / (it.cache_hits + it.cache_misses) : null)]], write: percent, most: 1 },
  { title: "Traffic a second", lines: [["bytes", (it) => it.bytes / POINT_S]], write: bytes },
];

// A round number at or above `value`.
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

class Chart {
  constructor(spec) {
    this.spec = spec;
    this.points = [];
    this.cursor = null;
    this.value = element("p", { class: "value" });
    this.note = element("p", { class: "note" });
    this.scale = svg("text", { class: "scale", x: 2, y: 10 });
    this.base = svg("line", { class: "base", x1: 0, x2: WIDE, y1: TALL - 0.5, y2: TALL - 0.5 });
    this.line = svg("line", { class: "cursor", y1: 0, y2: TALL, visibility: "hidden" });
    this.area = svg("path", { class: "area" });
    this.paths = spec.lines.map((_, at) => svg("path", { class: `line line-${at}` }));
    this.plot = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", role: "img", tabindex: "0" },
      this.base, this.area, ...this.paths.toReversed(), this.line);
    const labels = svg("svg", { class: "labels", "aria-hidden": "true" }, this.scale);
    this.node = element("figure", { class: "chart" }, element("figcaption", {}, element("span", { text: spec.title }), this.value),
      element("div", { class: "plot" }, this.plot, labels), this.note);
    this.plot.addEventListener("pointermove", (event) => {
      const share = event.offsetX / this.plot.clientWidth;
      this.move(Math.round(share * (this.shown.length - 1)));
    });
    this.plot.addEventListener("pointerleave", () => this.move(null));
    this.plot.addEventListener("blur", () => this.move(null));
    this.plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const last = this.shown.length - 1;
      this.move(Math.max(0, Math.min(last, (this.cursor ?? last) + step)));
    });
  }

  get shown() {
    return this.points;
  }

  draw(points, now) {
    this.points = points;
    const { lines, most, write } = this.spec;
    const values = lines.map(([, of]) => points.map(of));
    const top = most ?? nice(Math.max(0, ...values.flat().filter((value) => value !== null)));
    const x = (at) => WIDE - ((now - points[at].end_unix_ms) / HOUR_MS) * WIDE;
    const y = (value) => TALL - 1 - (value / top) * (TALL - 4);
    values.forEach((line, at) => {
      let path = "";
      let isDown = false;
      line.forEach((value, point) => {
        if (value === null) {
          isDown = false;
          return;
        }
        path += `${isDown ? "L" : "M"}${x(point).toFixed(1)} ${y(value).toFixed(1)}`;
        isDown = true;
      });
      this.paths[at].setAttribute("d", path);
    });
    const main = values[0];
    const isWhole = points.length > 1 && !main.includes(null);
    this.area.setAttribute("d", isWhole
      ? `${this.paths[0].getAttribute("d")}L${x(points.length - 1).toFixed(1)} ${TALL}L${x(0).toFixed(1)} ${TALL}Z` : "");
    say(this.scale, write(top));
    this.x = x;
    const known = main.filter((value) => value !== null);
    const peak = known.length ? write(Math.max(...known)) : "nothing yet";
    this.summary = `${this.spec.title}, last hour: highest ${peak}`;
    this.move(this.cursor);
  }

  // Shows the point at `at`; null: the newest.
  move(at) {
    const last = this.points.length - 1;
    this.cursor = at === null || at > last ? null : at;
    const shown = this.cursor ?? last;
    const point = this.points[shown];
    const { lines, write } = this.spec;
    const words = lines.map(([name, of], line) => {
      const value = point ? of(point) : null;
      const text = value === null ? "–" : write(value);
      return lines.length === 1 ? text : `${name} ${text}${line < lines.length - 1 ? "," : ""}`;
    }).join(" ");
    say(this.value, words);
    say(this.note, point && this.cursor !== null ? time(point.end_unix_ms) : "");
    this.plot.setAttribute("aria-label", `${this.summary ?? this.spec.title}; ${this.cursor === null ? "now" : time(point.end_unix_ms)} ${words}`);
    this.line.setAttribute("visibility", this.cursor === null ? "hidden" : "visible");
    if (this.cursor !== null) {
      this.line.setAttribute("x1", this.x(this.cursor));
      this.line.setAttribute("x2", this.x(this.cursor));
    }
  }
}

// The load of each worker, minute by minute: a row each, the fuller the darker.
class Loads {
  constructor() {
    this.loads = new Map();
    this.canvas = element("canvas", { class: "loads", role: "img", tabindex: "0" });
    this.value = element("p", { class: "value" });
    this.node = element("figure", { class: "chart wide-chart" }, element("figcaption", {}, element("span", { text: "Load by worker, of its cores" }), this.value), this.canvas);
    this.canvas.addEventListener("pointermove", (event) => {
      const names = [...this.loads.keys()];
      const name = names[Math.floor((event.offsetY / this.canvas.clientHeight) * names.length)];
      const ago = MINUTES - 1 - Math.floor((event.offsetX / this.canvas.clientWidth) * MINUTES);
      const load = this.loads.get(name)?.at(-1 - ago);
      if (load !== undefined) say(this.value, `${name}: ${load} % ${ago} min ago`);
    });
    this.canvas.addEventListener("pointerleave", () => this.sum());
  }

  whole(loads) {
    this.loads = new Map(Object.entries(loads ?? {}));
    this.draw();
  }

  // A minute later: what the workers say now, until the coordinator's own numbers come.
  add(workers) {
    for (const name of this.loads.keys()) if (!(name in workers)) this.loads.delete(name);
    for (const [name, worker] of Object.entries(workers)) {
      const load = Math.min(255, Math.round(worker.load_milli / 10 / Math.max(1, worker.cores)));
      this.loads.set(name, [...(this.loads.get(name) ?? []), load].slice(-MINUTES));
    }
    this.draw();
  }

  sum() {
    const now = [...this.loads.values()].map((row) => row.at(-1)).filter((load) => load !== undefined);
    const words = now.length ? `now ${Math.round(now.reduce((a, b) => a + b, 0) / now.length)} % on average, highest ${Math.max(...now)} %` : "after the first minute";
    say(this.value, words);
    this.canvas.setAttribute("aria-label", `Load by worker, last hour: ${words}`);
  }

  draw() {
    const rows = [...this.loads.values()];
    this.node.hidden = !rows.some((row) => row.length);
    this.canvas.width = MINUTES;
    this.canvas.height = Math.max(1, rows.length);
    this.canvas.style.height = `${Math.min(160, Math.max(1, rows.length) * 10)}px`;
    const context = this.canvas.getContext("2d");
    context.fillStyle = getComputedStyle(this.canvas).color;
    rows.forEach((row, at) => row.forEach((load, minute) => {
      context.globalAlpha = Math.min(1, 0.06 + load / 110);
      context.fillRect(MINUTES - row.length + minute, at, 1, 1);
    }));
    this.sum();
  }
}

export class Charts {
  constructor(place) {
    this.charts = CHARTS.map((spec) => new Chart(spec));
    this.loads = new Loads();
    this.points = [];
    place.replaceChildren(...this.charts.map((chart) => chart.node), this.loads.node);
  }

  whole(points, now, loads) {
    this.points = points;
    this.added = 0;
    this.draw(now);
    this.loads.whole(loads);
  }

  add(point, now, workers) {
    this.added += 1;
    if (this.added % (60 / POINT_S) === 0) this.loads.add(workers);
    this.points = [...this.points.filter((it) => it.end_unix_ms > now - HOUR_MS), point];
    this.draw(now);
  }

  draw(now) {
    for (const chart of this.charts) chart.draw(this.points, now);
  }
}

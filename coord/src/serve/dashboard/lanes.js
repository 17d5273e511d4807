// The workers, a lane each: state, the last minute of compiles, and details on demand.

import { byId, bytes, count, duration, element, Facts, mark, say, Table, time } from "./elements.js";
import { Track } from "./track.js";

const LAST_MAX = 8;
const FRAME_MS = 100;

// What a worker's machine is beneath its programs, where that is not what it seems.
function beneath(machine) {
    const kinds = machine.core_kinds.map((kind) => `${count(kind.cores)} at ${(kind.capacity_milli / 10).toFixed(0)}%`);
    return [
        machine.emulator && `emulated by ${machine.emulator}`,
        machine.kernel_architecture && `kernel for ${machine.kernel_architecture}`,
        kinds.length > 0 && `cores: ${kinds.join(", ")}`,
    ].filter(Boolean).join("; ");
}

// What is wrong with a worker, the worst first; null: nothing.
function trouble(worker) {
  if (worker.paused) return ["warn", "paused by an operator"];
  if (worker.out) return ["bad", "out: another object than its client’s compiler makes"];
  if (worker.circuit === "open") return ["bad", "breaker open"];
  if (worker.draining) return ["warn", "draining"];
  if (worker.circuit === "half-open") return ["warn", "on probation"];
  if (worker.slots_now < worker.slots) return ["warn", `${worker.slots - worker.slots_now} slots fewer${worker.slots_why ? `: ${worker.slots_why}` : ""}`];
  if (worker.shut_for_holders > 0) return ["warn", `failing for ${worker.shut_for_holders} holder(s)`];
  return null;
}

const RANK = { bad: 0, warn: 1 };

class Lane {
  constructor(name, grid) {
    this.name = name;
    this.grid = grid;
    this.last = [];
    this.details = null;
    const number = (grid.numbered += 1);
    this.dot = element("span", { class: "dot", "aria-hidden": "true" });
    this.title = element("span", { class: "name" });
    this.what = element("span", { class: "what" });
    this.state = element("span", { class: "state" });
    this.busy = element("span", { class: "busy" });
    this.load = element("span", { class: "load" });
    this.button = element("button", { type: "button", class: "lane-head", "aria-expanded": "false", "aria-controls": `lane-${number}` },
      this.dot, element("span", { class: "who" }, this.title, this.what), this.state, this.busy, this.load);
    this.canvas = element("canvas", { class: "track", "aria-hidden": "true" });
    this.panel = element("div", { class: "panel", id: `lane-${number}`, hidden: true });
    this.node = element("li", { class: "lane" }, this.button, this.canvas, this.panel);
    this.track = new Track(this.canvas);
    this.isVisible = false;
    this.canvas.lane = this;
    grid.watcher.observe(this.canvas);
    this.button.addEventListener("click", () => this.toggle());
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.grid.tip(null));
  }

  show(worker) {
    this.worker = worker;
    const wrong = trouble(worker);
    this.wrong = wrong;
    say(this.title, worker.id);
    say(this.what, `${worker.architecture} ${worker.os}${worker.sandbox ? ` · ${worker.sandbox}` : ""}`);
    say(this.state, wrong ? wrong[1] : "ready");
    mark(this.node, "state", wrong ? wrong[0] : "good");
    say(this.busy, `${worker.running}/${worker.slots_now}`);
    this.busy.title = "slots busy of those that its machine bears";
    say(this.load, worker.temperature_milli_c ? `${Math.round(worker.temperature_milli_c / 1_000)} °C` : `load ${(worker.load_milli / 1_000).toFixed(1)}`);
    this.track.run(worker.tasks ?? {}, worker.slots);
    if (this.details) this.fill();
  }

  ended(task) {
    this.track.end(task);
    this.last.push(task);
    if (this.last.length > LAST_MAX) this.last.shift();
  }

  toggle() {
    const isOpen = this.panel.hidden;
    this.panel.hidden = !isOpen;
    this.button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen && !this.details) this.make();
    if (!isOpen) {
      this.panel.replaceChildren();
      this.details = null;
    }
  }

  make() {
    const facts = element("dl", { class: "facts" });
    const running = element("div");
    const last = element("div");
    const actions = element("div", { class: "row" });
    this.panel.replaceChildren(facts, actions, running, last);
    const run = [
      { title: "Compiles now", value: (it) => it.source },
      { title: "Stage", value: (it) => it.stage },
      { title: "Since", number: true, value: (it) => duration(Math.max(0, this.grid.now() - it.since)) },
      { title: "Client", value: (it) => it.client },
    ];
    const ended = [
      { title: "Last compiles", value: (it) => it.source },
      { title: "Ended", value: (it) => it.outcome },
      { title: "Waiting", number: true, value: (it) => duration(it.queue_ms) },
      { title: "Transfer", number: true, value: (it) => duration(it.transfer_ms) },
      { title: "Compile", number: true, value: (it) => duration(it.compile_ms) },
      { title: "At", number: true, value: (it) => time(it.ended_unix_ms) },
    ];
    this.details = {
      facts: new Facts(facts),
      running: new Table(running, `Running on ${this.name}`, run, "Nothing runs here now."),
      last: new Table(last, `Last compiles on ${this.name}`, ended, "Nothing ended here yet."),
      actions,
    };
    const button = (words, change) => {
      const made = element("button", { type: "button", text: words });
      made.addEventListener("click", () => this.grid.change(this.worker, change, made));
      return made;
    };
    this.details.drain = button("Drain", "drain");
    this.details.pause = button("Pause", "pause");
    this.details.readmit = button("Give it tasks again", "readmit");
    this.details.said = element("span", { role: "status" });
    actions.append(this.details.drain, this.details.pause, this.details.readmit, this.details.said);
    this.fill();
  }

  fill() {
    const { worker, details } = this;
    const { facts } = details;
    facts.set("System", `${worker.architecture} ${worker.os}, ${count(worker.cores)} cores, version ${worker.version}`);
    facts.set("Machine", beneath(worker.machine) || "as it seems");
    facts.set("Memory free", `${bytes(worker.memory_available_bytes)} of ${bytes(worker.memory_bytes)}`);
    facts.set("Load", (worker.load_milli / 1_000).toFixed(2));
    facts.set("Temperature", worker.temperature_milli_c ? `${(worker.temperature_milli_c / 1_000).toFixed(1)} °C` : "not measured");
    facts.set("Slots", `${count(worker.running)} busy, ${count(worker.slots_now)} offered of ${count(worker.slots)}${worker.slots_why ? ` (${worker.slots_why})` : ""}`);
    facts.set("Speed", worker.speed_milli ? `${(worker.speed_milli / 1_000).toFixed(2)} of a reference core` : "not known");
    facts.set("Round trip", worker.round_trip_us ? `${(worker.round_trip_us / 1_000).toFixed(1)} ms` : "not measured");
    facts.set("Sandbox", worker.sandbox || "not said");
    facts.set("Breaker", worker.circuit);
    facts.set("Tasks", `${count(worker.tasks_finished)} finished, ${count(worker.tasks_failed)} failed`);
    facts.set("Audits", `${count(worker.audits_same)} same, ${count(worker.audits_different)} different${worker.out ? ", out" : ""}`);
    facts.set("Joined", `${time(worker.joined_unix_ms)} from ${worker.address}`);
    facts.set("Last error", worker.last_error || "none");
    facts.set("Toolchains", worker.toolchains.join("\n") || "none").parentElement.classList.add("long");
    const running = Object.entries(worker.tasks ?? {});
    details.running.show(running.map(([id, [source, stage, since, client]]) => ({ id, source, stage, since, client })), (it) => it.id);
    details.last.show([...this.last].reverse(), (it) => it.task_id);
    details.drain.hidden = !this.grid.mayChange() || worker.draining;
    details.pause.hidden = !this.grid.mayChange() || worker.draining || worker.out;
    details.readmit.hidden = !this.grid.mayChange() || !worker.out;
  }

  point(event) {
    const one = this.track.at(event.offsetX, event.offsetY);
    if (!one) return this.grid.tip(null);
    const words = one.task
      ? `${one.task.source}\n${one.task.outcome} · waiting ${duration(one.task.queue_ms)} · transfer ${duration(one.task.transfer_ms)} · compile ${duration(one.task.compile_ms)}`
      : `${one.source}\n${one.stage} for ${duration(Math.max(0, this.grid.now() - one.start))}`;
    this.grid.tip(words, event.clientX, event.clientY);
  }
}

export class Lanes {
  // `change(worker, what)` gives what became of it; `now()` is the coordinator's time.
  constructor({ now, change, mayChange }) {
    this.now = now;
    this.mayChange = mayChange;
    this.ask = change;
    this.numbered = 0;
    this.list = byId("lanes");
    this.lanes = new Map();
    this.filter = byId("filter");
    this.order = byId("order");
    this.filter.addEventListener("input", () => this.arrange());
    this.order.addEventListener("change", () => this.arrange());
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        entry.target.lane.isVisible = entry.isIntersecting;
        entry.target.lane.track.isDirty = true;
      }
    });
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.drawn = 0;
    const frame = (at) => {
      if (at - this.drawn >= FRAME_MS) {
        this.drawn = at;
        this.draw();
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  clear() {
    for (const lane of this.lanes.values()) {
      lane.last = [];
      lane.track.bars = [];
      lane.track.running.clear();
      lane.track.ends = [];
    }
  }

  ended(tasks) {
    for (const task of tasks) this.lanes.get(task.worker)?.ended(task);
  }

  // New lanes first, then what ended in them, then what runs.
  make(workers) {
    let isOther = false;
    for (const [name, worker] of Object.entries(workers)) {
      if (!this.lanes.has(name)) {
        const lane = new Lane(name, this);
        lane.worker = worker;
        lane.track.slots = worker.slots;
        this.lanes.set(name, lane);
        isOther = true;
      }
    }
    for (const [name, lane] of this.lanes) {
      if (!(name in workers)) {
        this.watcher.unobserve(lane.canvas);
        lane.node.remove();
        this.lanes.delete(name);
        isOther = true;
      }
    }
    this.isOther = isOther;
  }

  show(workers, changed) {
    let isOther = this.isOther;
    for (const [name, lane] of this.lanes) {
      if (changed && !(name in changed)) continue;
      const before = lane.wrong?.[0];
      lane.show(workers[name]);
      isOther ||= before !== lane.wrong?.[0];
    }
    byId("no-workers").hidden = this.lanes.size > 0;
    if (isOther || this.order.value === "busy") this.arrange();
  }

  arrange() {
    const words = this.filter.value.trim().toLowerCase();
    const by = this.order.value;
    const rank = (lane) => RANK[lane.wrong?.[0]] ?? 2;
    const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });
    const compare = {
      name: byName,
      busy: (a, b) => b.worker.running - a.worker.running || byName(a, b),
      trouble: (a, b) => rank(a) - rank(b) || byName(a, b),
    }[by];
    const all = [...this.lanes.values()].sort(compare);
    let before = null;
    for (const lane of all) {
      const text = `${lane.name} ${lane.what.textContent} ${lane.state.textContent}`.toLowerCase();
      lane.node.hidden = words !== "" && !text.includes(words);
      const place = before ? before.nextSibling : this.list.firstChild;
      if (place !== lane.node) this.list.insertBefore(lane.node, place);
      before = lane.node;
    }
  }

  draw() {
    if (document.hidden) return;
    const now = this.now();
    let colours = null;
    for (const lane of this.lanes.values()) {
      const { track } = lane;
      if (!lane.isVisible || (this.still.matches ? !track.isDirty : !track.isDirty && !track.isBusy)) continue;
      colours ??= this.colours();
      track.draw(now, colours);
    }
  }

  colours() {
    const of = (name) => getComputedStyle(byId(`swatch-${name}`)).backgroundColor;
    return { transfer: of("transfer"), compile: of("compile"), failed: of("failed"), grid: getComputedStyle(this.list).borderTopColor };
  }

  redraw() {
    for (const lane of this.lanes.values()) lane.track.isDirty = true;
  }

  tip(words, left, top) {
    const tip = byId("tip");
    tip.hidden = !words;
    if (!words) return;
    say(tip, words);
    const right = left + tip.offsetWidth + 16 > innerWidth;
    tip.style.left = `${Math.max(4, right ? left - tip.offsetWidth - 12 : left + 12)}px`;
    tip.style.top = `${Math.min(innerHeight - tip.offsetHeight - 4, top + 14)}px`;
  }

  async change(worker, what, button) {
    const sure = { drain: "No more tasks for this worker; it finishes those it has, and leaves. Drain it?", pause: "No more tasks for this worker until it is let back. Pause it?", readmit: "Give it tasks again?" }[what];
    if (!confirm(`${worker.id}: ${sure}`)) return;
    button.disabled = true;
    const said = this.lanes.get(worker.id)?.details?.said;
    const words = await this.ask(worker, what);
    button.disabled = false;
    if (said) say(said, words);
  }
}

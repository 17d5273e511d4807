// Builds, reasons, holders, caches and events.

import { byId, bytes, count, duration, element, Facts, percent, say, Table, time } from "./elements.js";

const EVENTS_SHOWN = 60;

const EVENT_WORDS = {
  "worker-joined": "joined",
  "worker-left": "left",
  "worker-drains": "drains",
  "worker-paused": "is paused",
  "circuit-open": "breaker opened",
  "circuit-half-open": "breaker tries one task",
  "circuit-closed": "breaker closed",
  "audit-differs": "audit found another object",
  "worker-differs": "differs from another worker",
};
const EVENT_STATES = { "worker-left": "warn", "circuit-open": "bad", "audit-differs": "bad", "worker-differs": "warn", "worker-drains": "warn", "worker-paused": "warn" };

function reasonsOf(build) {
  if (!build.reasons.length) return "";
  return build.reasons.slice(0, 3).map((it) => `${it.reason} (${count(it.compiles)}, ${duration(it.lost_ms)})`).join(", ");
}

export class Tables {
  constructor(now) {
    this.builds = new Table(byId("builds-list"), "Builds", [
      { title: "Build", value: (it) => it.client },
      { title: "Holder", value: (it) => it.holder },
      { title: "Began", number: true, value: (it) => time(it.began_unix_ms) },
      { title: "State", value: (it) => {
        if (it.report) return it.report.exit_code === 0 ? `done in ${duration(it.report.wall_ms)}` : `ended with ${it.report.exit_code}`;
        return it.open ? `${count(it.open)} on the grid` : `quiet for ${duration(Math.max(0, now() - it.seen_unix_ms))}`;
      } },
      { title: "Remote", number: true, value: (it) => count(it.report ? it.report.remote : it.finished) },
      { title: "Local", number: true, value: (it) => (it.report ? count(it.report.local) : "–") },
      { title: "Cached", number: true, value: (it) => (it.report ? count(it.report.cached) : "–") },
      { title: "Unfinished", number: true, value: (it) => count(it.failed) },
      { title: "Slowest", value: (it) => it.slowest.slice(0, 2).map((slow) => `${slow.source} ${duration(slow.wall_ms)}`).join(", ") },
      { title: "Stayed local", value: reasonsOf },
    ], "No build has used the grid since the coordinator started: hgbuild make.");
    this.reasons = new Table(byId("reasons-list"), "Reasons for local compiles", [
      { title: "Reason", value: (it) => it.reason },
      { title: "Compiles", number: true, value: (it) => count(it.compiles) },
      { title: "Time lost", number: true, value: (it) => duration(it.lost_ms) },
      { title: "What to do", value: (it) => it.advice ?? "" },
    ], "No build has reported a local compile.");
    this.holders = new Table(byId("holders-list"), "Holders of tokens", [
      { title: "Holder", value: (it) => it.holder },
      { title: "Now", number: true, value: (it) => count(it.open) },
      { title: "Waiting", number: true, value: (it) => count(it.queued) },
      { title: "Share", number: true, value: (it) => (it.share_milli ? percent(it.share_milli / 1_000) : "–") },
      { title: "Tasks", number: true, value: (it) => count(it.tasks_total) },
      { title: "On workers", number: true, value: (it) => duration(it.compile_ms_total) },
    ], "Nobody has submitted a task.");
    this.caches = new Facts(byId("caches"));
    this.eventList = byId("events-list");
  }

  show(state) {
    const builds = Object.values(state.builds ?? {});
    builds.sort((a, b) => b.build_id - a.build_id);
    this.builds.show(builds, (it) => it.build_id);
    const { reasons, best } = state.reasons ?? {};
    this.reasons.show(reasons ?? [], (it) => it.reason);
    const line = byId("best");
    line.hidden = !best;
    if (best) say(line, `What would return most: ${best.advice} (${best.reason}, ${duration(best.lost_ms)} lost).`);
    this.holders.show(state.holders ?? [], (it) => it.holder);
    const { status } = state;
    const lookups = status.cache_hits_reported + status.cache_misses_reported;
    this.caches.set("Lookups in clients’ caches", count(lookups));
    this.caches.set("Hits", `${count(status.cache_hits_reported)}${lookups ? ` (${percent(status.cache_hits_reported / lookups)})` : ""}`);
    this.caches.set("Compiler time saved by hits", duration(status.cache_saved_ms));
    this.caches.set("Inputs that workers had already", bytes(Math.max(0, status.input_bytes - status.input_bytes_sent)));
    this.caches.set("Inputs that travelled", bytes(status.input_bytes_sent));
    this.caches.set("Races", `${count(status.hedges)} begun, ${count(status.hedges_won)} won`);
  }

  events(events, isWhole) {
    if (isWhole) this.eventList.replaceChildren();
    for (const event of events) {
      const words = EVENT_WORDS[event.kind] ?? event.kind;
      this.eventList.prepend(element("li", { "data-state": EVENT_STATES[event.kind] ?? "good" },
        element("time", { text: time(event.unix_ms) }), element("b", { text: event.worker }),
        element("span", { text: event.detail ? `${words}: ${event.detail}` : words })));
    }
    while (this.eventList.children.length > EVENTS_SHOWN) this.eventList.lastChild.remove();
    if (!this.eventList.children.length) this.eventList.append(element("li", { class: "notice", text: "Nothing yet." }));
  }
}

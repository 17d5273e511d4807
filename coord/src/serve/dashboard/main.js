// Joins the parts: messages in, page out.

import { Charts } from "./charts.js";
import { Connection, merge } from "./connection.js";
import { byId, count, duration, element, mark, percent, rate, say } from "./elements.js";
import { Lanes } from "./lanes.js";
import { Tables } from "./tables.js";

let state = null;
let columns = [];
let role = null;
// The coordinator's clock less ours.
let skewMs = 0;
const now = () => Date.now() + skewMs;

const lanes = new Lanes({
  now,
  mayChange: () => role === "admin",
  change: async (worker, what) => {
    const answer = await connection.ask(`/api/v1/workers/${encodeURIComponent(worker.id)}/${what}`, "POST");
    return answer.ok ? "Done." : `It was refused: ${answer.body}`;
  },
});
const charts = new Charts(byId("charts-grid"));
const tables = new Tables(now);

const TILES = [
  ["Workers", (it) => count(it.workers), () => "connected"],
  ["Slots busy", (it) => `${count(it.slots_busy)}/${count(it.slots_now)}`, (it) => (it.slots_now < it.slots ? `${count(it.slots - it.slots_now)} held back by their machines` : "all offered")],
  ["Waiting", (it) => count(it.queued), () => "tasks in the queue"],
  ["Compiles a second", (it) => rate(it.compiles_per_second_milli / 1_000), (it) => `${count(it.tasks_finished)} since the start`],
  ["Cache hits", (it) => {
    const lookups = it.cache_hits_reported + it.cache_misses_reported;
    return lookups ? percent(it.cache_hits_reported / lookups) : "–";
  }, (it) => `${count(it.cache_hits_reported)} of ${count(it.cache_hits_reported + it.cache_misses_reported)} lookups`],
  ["Time saved today", (it) => duration(it.saved_today_ms + it.compiled_today_ms), (it) => `${duration(it.compiled_today_ms)} on workers, ${duration(it.saved_today_ms)} by caches`],
].map(([name, value, note]) => {
  const shown = element("dd", { class: "big", "data-tile": name });
  const more = element("dd", { class: "small" });
  byId("tiles").append(element("div", {}, element("dt", { text: name }), shown, more));
  return { shown, more, value, note };
});

const FAILED = element("div", {}, element("dt", { text: "Failed on the grid" }), element("dd", { class: "big" }), element("dd", { class: "small", text: "compiled on their own machines" }));
byId("tiles").append(FAILED);

function glance(status) {
  for (const tile of TILES) {
    say(tile.shown, tile.value(status));
    say(tile.more, tile.note(status));
  }
  say(FAILED.children[1], count(status.tasks_failed));
}

function rows(ended) {
  return ended.map((row) => Object.fromEntries(columns.map((name, at) => [name, row[at]])));
}

const listener = {
  hear(message) {
    if (message.kind === "hello") {
      role = message.role ?? (connection.token ? role : null);
      return;
    }
    const isWhole = message.kind === "whole";
    if (isWhole) {
      state = message.state;
      columns = message.ended_columns;
      lanes.clear();
    } else {
      merge(state, message.patch);
    }
    skewMs = state.status.now_unix_ms - Date.now();
    lanes.make(state.workers);
    lanes.ended(rows(message.ended));
    lanes.show(state.workers, isWhole ? null : message.patch.workers ?? {});
    glance(state.status);
    tables.show(state);
    if (isWhole || message.events.length) tables.events(message.events, isWhole);
    if (isWhole) charts.whole(message.points, now(), message.worker_load_percent);
    else if (message.point) charts.add(message.point, now(), state.workers);
    document.documentElement.dataset.sequence = message.sequence;
  },
  link(name, words) {
    const link = byId("link");
    mark(link, "state", name);
    say(link, words);
  },
  refused() {
    const error = byId("sign-in-error");
    say(error, connection.token ? "This token was refused: it may have ended, or be of another coordinator." : "");
    connection.token = "";
    signIn();
  },
};

const connection = new Connection(listener);

// A token is shown by who looks from elsewhere, and by who wants to change something.
async function signIn() {
  const dialog = byId("sign-in");
  if (!dialog.open) dialog.showModal();
}

byId("sign").addEventListener("click", () => {
  say(byId("sign-in-error"), "");
  signIn();
});
byId("sign-in-cancel").addEventListener("click", () => byId("sign-in").close());
byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  connection.token = byId("token").value.trim();
  byId("token").value = "";
  const answer = await connection.get("/api/v1/session");
  if (!answer.ok) {
    connection.token = "";
    say(byId("sign-in-error"), `It was refused: ${answer.body}`);
    return;
  }
  role = answer.body.role;
  say(byId("sign"), answer.body.name ? `${answer.body.name} (${answer.body.role})` : "Sign in");
  byId("sign-in").close();
  connection.again();
});

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try {
    localStorage.setItem("hybridgrid-theme", root.dataset.theme);
  } catch {
    // Chosen for this page alone.
  }
  lanes.redraw();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => lanes.redraw());
addEventListener("resize", () => lanes.redraw());

connection.open();

// The way to the coordinator: a live socket; while there is none, the REST API by polling.

const STATE_PATH = "/api/v1/live";
const PROTOCOL = "hybridgrid.live.v1";
const TOKEN_PROTOCOL = "hybridgrid.token.";
const BACKOFF_MS_MIN = 500;
const BACKOFF_MS_MAX = 15_000;
const POLL_MS = 3_000;
const ANSWER_MS_MAX = 10_000;
// Nothing for so long: the other end is gone, whatever the socket says.
const SILENCE_MS = 8_000;

// Merges an RFC 7396 patch into `target`.
export function merge(target, patch) {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) {
      delete target[name];
    } else if (typeof value === "object" && !Array.isArray(value)) {
      const old = target[name];
      const isObject = typeof old === "object" && old !== null && !Array.isArray(old);
      target[name] = merge(isObject ? old : Object.create(null), value);
    } else {
      target[name] = value;
    }
  }
  return target;
}

export class Connection {
  // `listener` has hear(message), link(state, words) and refused().
  constructor(listener) {
    this.listener = listener;
    this.failures = 0;
    this.sequence = 0;
    this.socket = null;
    this.polling = null;
    this.timer = null;
    addEventListener("online", () => this.again());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !this.socket) this.again();
    });
  }

  get token() {
    try {
      return sessionStorage.getItem("hybridgrid-token") ?? "";
    } catch {
      return this.kept ?? "";
    }
  }

  set token(text) {
    this.kept = text;
    try {
      if (text) sessionStorage.setItem("hybridgrid-token", text);
      else sessionStorage.removeItem("hybridgrid-token");
    } catch {
      // Kept for this page alone.
    }
  }

  // Dials now, whatever was waited for.
  again() {
    clearTimeout(this.timer);
    this.failures = 0;
    this.socket?.close();
    this.socket = null;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const protocols = this.token ? [PROTOCOL, TOKEN_PROTOCOL + this.token] : [PROTOCOL];
    let socket;
    try {
      socket = new WebSocket(`${scheme}//${location.host}${STATE_PATH}`, protocols);
    } catch {
      this.lost(null);
      return;
    }
    this.socket = socket;
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.quiet(socket);
      this.take(JSON.parse(event.data));
    };
    socket.onclose = () => this.lost(socket);
    this.quiet(socket);
  }

  // Waits for the next message.
  quiet(socket) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lost(socket), SILENCE_MS);
  }

  take(message) {
    if (message.kind === "change") {
      // Something is missing: only the whole helps.
      if (message.sequence !== this.sequence + 1) return this.again();
    }
    if (message.sequence) this.sequence = message.sequence;
    if (message.kind === "whole") {
      this.failures = 0;
      this.stopPolling();
      this.listener.link("live", "Live");
    }
    this.listener.hear(message);
  }

  lost(socket) {
    if (this.socket !== socket) return;
    clearTimeout(this.silence);
    this.socket = null;
    socket?.close();
    this.failures += 1;
    if (!this.polling) this.listener.link("lost", "Connection lost");
    this.poll();
    const wait = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** (this.failures - 1));
    this.timer = setTimeout(() => this.open(), wait * (0.5 + Math.random() / 2));
  }

  stopPolling() {
    clearTimeout(this.polling);
    this.polling = null;
  }

  // Asks by plain HTTP, for as long as there is no socket.
  async poll() {
    if (this.polling) return;
    this.polling = setTimeout(() => {}, 0);
    const answer = await this.get(STATE_PATH);
    if (this.polling === null) return;
    if (answer.ok) {
      this.sequence = 0;
      this.listener.link("polling", "Every 3 s");
      this.listener.hear(answer.body);
    } else if (answer.status === 401) {
      this.stopPolling();
      clearTimeout(this.timer);
      this.listener.link("refused", "Token needed");
      this.listener.refused();
      return;
    } else {
      this.listener.link("lost", answer.status ? `Error ${answer.status}` : "No connection");
    }
    this.polling = setTimeout(() => {
      this.polling = null;
      if (!document.hidden) this.poll();
    }, POLL_MS);
  }

  async get(path) {
    return this.ask(path, "GET");
  }

  async ask(path, method) {
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    try {
      const answer = await fetch(path, { method, headers, credentials: method === "GET" ? "same-origin" : "omit", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
      const text = await answer.text();
      const body = answer.ok ? JSON.parse(text) : text.trim();
      return { ok: answer.ok, status: answer.status, body };
    } catch (error) {
      return { ok: false, status: 0, body: String(error) };
    }
  }
}

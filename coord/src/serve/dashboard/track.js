// One worker's compiles of the last minute, drawn as bars: a row for each slot, now at the
// right end. What is drawn can be read as a table in the lane's details.

export const SPAN_MS = 60_000;
const ROWS_MAX = 8;
const GAP = 1;

export class Track {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.slots = 1;
    // By task: where a running one is, so that it stays there.
    this.running = new Map();
    this.bars = [];
    this.ends = [];
    this.isDirty = true;
  }

  // Rows that slots share where there are many.
  get rows() {
    return Math.max(1, Math.min(ROWS_MAX, this.slots));
  }

  // The first row that is free from `start` on, or the one that is soonest.
  free(start) {
    let best = 0;
    for (let row = 0; row < this.rows; row += 1) {
      const end = this.ends[row] ?? 0;
      if (end <= start) return row;
      if (end < (this.ends[best] ?? 0)) best = row;
    }
    return best;
  }

  // `tasks` by number: source, stage, since when, client.
  run(tasks, slots) {
    this.slots = slots;
    for (const id of this.running.keys()) {
      if (!(id in tasks)) this.running.delete(id);
    }
    for (const [id, [source, stage, since, client]] of Object.entries(tasks)) {
      const old = this.running.get(id);
      if (old) {
        if (old.stage !== stage) {
          old.stage = stage;
          old.compiling = since;
        }
        continue;
      }
      const row = this.free(since);
      this.ends[row] = Infinity;
      const compiling = stage === "compile" ? since : null;
      this.running.set(id, { id, source, client, stage, row, start: since, compiling });
    }
    this.isDirty = true;
  }

  // A task of this worker has ended. Before its number goes from `run`.
  end(task) {
    const start = task.ended_unix_ms - task.compile_ms - task.transfer_ms;
    const old = this.running.get(String(task.task_id));
    this.running.delete(String(task.task_id));
    const row = old ? old.row : this.free(start);
    this.ends[row] = task.ended_unix_ms;
    this.bars.push({ task, row, start, compiling: task.ended_unix_ms - task.compile_ms, end: task.ended_unix_ms });
    this.isDirty = true;
  }

  get isBusy() {
    return this.running.size > 0 || this.bars.length > 0;
  }

  forget(now) {
    const first = this.bars.findIndex((bar) => bar.end > now - SPAN_MS);
    if (first !== 0) this.bars.splice(0, first < 0 ? this.bars.length : first);
    const used = new Set([...this.running.values()].map((one) => one.row));
    this.ends = this.ends.map((end, row) => (end === Infinity && !used.has(row) ? 0 : end));
  }

  draw(now, colours) {
    const { canvas, context } = this;
    const scale = Math.min(2, devicePixelRatio || 1);
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    this.forget(now);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const tall = (height + GAP) / this.rows;
    const x = (at) => width - ((now - at) / SPAN_MS) * width;
    context.fillStyle = colours.grid;
    for (let s = 15; s < 60; s += 15) context.fillRect(Math.round(x(now - s * 1_000)), 0, 1, height);
    const bar = (from, to, row, colour) => {
      const left = Math.max(0, x(from));
      const right = Math.min(width, x(to));
      if (right <= 0 || left >= width) return;
      context.fillStyle = colour;
      // Never less than a pixel, and apart from its neighbour where there is room.
      const wide = Math.max(1, right - left - (right - left > 3 ? 1 : 0));
      context.fillRect(left, (row % this.rows) * tall, wide, Math.max(1, tall - GAP));
    };
    for (const one of this.bars) {
      bar(one.start, one.compiling, one.row, colours.transfer);
      bar(one.compiling, one.end, one.row, one.task.outcome === "ok" ? colours.compile : colours.failed);
    }
    for (const one of this.running.values()) {
      bar(one.start, one.compiling ?? now, one.row, colours.transfer);
      if (one.compiling) bar(one.compiling, now, one.row, colours.compile);
    }
    this.now = now;
    this.isDirty = false;
  }

  // What is drawn at a point of the canvas; null: nothing.
  at(left, top) {
    const width = this.canvas.clientWidth;
    const tall = (this.canvas.clientHeight + GAP) / this.rows;
    const row = Math.floor(top / tall);
    const when = (this.now ?? 0) - (1 - left / width) * SPAN_MS;
    const slack = (2 / width) * SPAN_MS;
    for (const one of this.running.values()) {
      if (one.row % this.rows === row && when >= one.start - slack) return one;
    }
    let found = null;
    for (const one of this.bars) {
      if (one.row % this.rows === row && when >= one.start - slack && when <= one.end + slack) found = one;
    }
    return found;
  }
}

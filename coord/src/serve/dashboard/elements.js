// Elements, text and numbers. Whatever comes from the grid gets into the page as text only.

export const byId = (id) => document.getElementById(id);

// An element with attributes and children; strings become text.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Sets text only where it is another one: screen readers and painting stay quiet.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function mark(node, name, value) {
  const text = String(value);
  if (node.dataset[name] !== text) node.dataset[name] = text;
}

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number) => (number < 100_000 ? plain : short).format(number);
export const rate = (number) => (number < 100 ? fine : plain).format(number);
export const percent = (share) => `${fine.format(share * 100)} %`;

export function duration(ms) {
  if (ms < 1_000) return `${plain.format(ms)} ms`;
  const s = ms / 1_000;
  if (s < 60) return `${fine.format(s)} s`;
  if (s < 3_600) return `${plain.format(Math.floor(s / 60))} min ${plain.format(Math.floor(s % 60))} s`;
  const h = s / 3_600;
  if (h < 48) return `${plain.format(Math.floor(h))} h ${plain.format(Math.floor((s % 3_600) / 60))} min`;
  return `${plain.format(Math.floor(h / 24))} d`;
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${(unit === 0 || number >= 100 ? plain : fine).format(number)} ${units[unit]}`;
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
export const time = (unixMs) => clock.format(unixMs);

// Rows of a table by key: rows stay while their keys do, so that focus and selection do too.
export class Table {
  constructor(place, caption, columns, empty) {
    this.body = element("tbody");
    const heads = columns.map((column) =>
      element("th", { scope: "col", class: column.number ? "number" : null, text: column.title }));
    this.table = element("table", {}, element("caption", { class: "unseen", text: caption }),
      element("thead", {}, element("tr", {}, ...heads)), this.body);
    this.columns = columns;
    this.rows = new Map();
    this.none = element("p", { class: "notice", text: empty });
    this.wide = element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": caption }, this.table);
    place.replaceChildren(this.none, this.wide);
  }

  show(items, keyOf) {
    this.none.hidden = items.length > 0;
    this.wide.hidden = items.length === 0;
    const keys = new Set();
    let before = null;
    for (const item of items) {
      const key = keyOf(item);
      keys.add(key);
      let row = this.rows.get(key);
      if (!row) {
        const cells = this.columns.map((column, at) =>
          at === 0 ? element("th", { scope: "row" }) : element("td", { class: column.number ? "number" : null }));
        row = element("tr", {}, ...cells);
        this.rows.set(key, row);
      }
      this.columns.forEach((column, at) => {
        const value = column.value(item);
        if (value instanceof Node) row.cells[at].replaceChildren(value);
        else say(row.cells[at], value);
      });
      const place = before ? before.nextSibling : this.body.firstChild;
      if (place !== row) this.body.insertBefore(row, place);
      before = row;
    }
    for (const [key, row] of this.rows) {
      if (!keys.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
  }
}

// Names and values, in the order in which they are first set.
export class Facts {
  constructor(place) {
    this.place = place;
    this.values = new Map();
  }

  set(name, text, title) {
    let value = this.values.get(name);
    if (!value) {
      value = element("dd");
      this.place.append(element("div", { title }, element("dt", { text: name }), value));
      this.values.set(name, value);
    }
    say(value, text);
    return value;
  }
}

// The list of images, which grows as it is scrolled, and its filters.
"use strict";

const ROWS = 100;

const byId = (id) => document.getElementById(id);

export function element(tag, text, ...classes) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never as HTML: keys and errors are text of strangers
  made.classList.add(...classes);
  return made;
}

export function picture(kind, row, fill) {
  const parts = { kind, key: row.key, v: row.finished_at };
  if (fill) parts.fill = fill;
  return `picture?${new URLSearchParams(parts)}`;
}

export const NAMES = { accept: "accepted", restore: "restored", hold: "held", redo: "filled again" };

export class List {
  #list = byId("list");
  #form = byId("filters");
  #loading = null;
  #until = null;
  #asked = 0;

  // `ask(path)` gives JSON; `chosen(row)` is called for the image to be shown, null where there is none.
  constructor(ask, chosen) {
    this.ask = ask;
    this.chosen = chosen;
    this.rows = [];
    this.total = 0;
    this.index = -1;
    this.dir = "desc";
    this.#list.addEventListener("scroll", () => {
      if (this.#list.scrollTop + 2 * this.#list.clientHeight > this.#list.scrollHeight) this.more();
    });
    this.#list.addEventListener("click", (event) => {
      const item = event.target.closest("li");
      if (item) this.choose([...this.#list.children].indexOf(item));
    });
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("change", () => this.restart());
    let timer = 0;
    this.#form.elements.q.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => this.restart(), 250); });
    byId("direction").addEventListener("click", () => { this.dir = this.dir === "desc" ? "asc" : "desc"; this.restart(); });
  }

  get row() { return this.rows[this.index] ?? null; }

  // Fill in the choices of the filters.
  offer({ statuses, labels, columns, docs }) {
    const add = (name, value, text, title) => {
      const option = element("option", text);
      option.value = value;
      if (title) option.title = title;
      this.#form.elements[name].append(option);
    };
    for (const [status, count] of Object.entries(statuses)) if (count) add("status", status, `${status} (${count.toLocaleString("en")})`);
    for (const [label, count] of Object.entries(labels)) add("label", label, `${label} (${count.toLocaleString("en")})`);
    for (const [column, text] of Object.entries(columns)) add("sort", column, text, docs[column]);
  }

  async restart() {
    const asked = ++this.#asked;
    this.#until = null;
    this.#loading = null;
    const direction = byId("direction");
    direction.hidden = !this.#form.elements.sort.value;
    direction.textContent = this.dir === "desc" ? "↓" : "↑";
    direction.setAttribute("aria-label", this.dir === "desc" ? "descending" : "ascending");
    const answer = await this.#ask(0);
    if (asked !== this.#asked || !answer) return;
    this.rows = [];
    this.index = -1;
    this.#list.replaceChildren();
    this.#add(answer);
    this.#list.scrollTop = 0;
    this.choose(this.rows.length ? 0 : -1);
  }

  more() {
    if (this.rows.length >= this.total) return Promise.resolve();
    const asked = this.#asked;
    this.#loading ??= this.#ask(this.rows.length).then((answer) => {
      if (asked !== this.#asked) return;
      this.#loading = null;
      if (answer) this.#add(answer);
    });
    return this.#loading;
  }

  choose(index) {
    this.#list.children[this.index]?.removeAttribute("aria-current");
    this.index = index;
    const item = this.#list.children[index];
    item?.setAttribute("aria-current", "true");
    if (item) { // not `scrollIntoView`, which scrolls the page too
      const [top, bottom] = [item.offsetTop - this.#list.offsetTop, item.offsetTop - this.#list.offsetTop + item.offsetHeight];
      if (top < this.#list.scrollTop) this.#list.scrollTop = top;
      else if (bottom > this.#list.scrollTop + this.#list.clientHeight) this.#list.scrollTop = bottom - this.#list.clientHeight;
    }
    this.chosen(this.row);
  }

  async step(by) {
    if (this.index + by >= this.rows.length) await this.more();
    const index = this.index + by;
    if (index >= 0 && index < this.rows.length) this.choose(index);
    else return false;
    if (index + 20 > this.rows.length) this.more();
    return true;
  }

  find(key) { return this.rows.findIndex((row) => row.key === key); }

  // Take over what is known of a decision.
  update(key, changes) {
    const index = this.find(key);
    if (index < 0) return;
    Object.assign(this.rows[index], changes);
    const item = item_of(this.rows[index]);
    if (index === this.index) item.setAttribute("aria-current", "true");
    // The picture is the same: a new one would flicker.
    item.firstChild.replaceWith(this.#list.children[index].firstChild);
    this.#list.children[index].replaceWith(item);
  }

  async #ask(offset) {
    const values = new FormData(this.#form);
    const parts = new URLSearchParams({ ...Object.fromEntries(values), dir: this.dir, offset, limit: ROWS });
    if (this.#until !== null) parts.set("until", this.#until);
    return this.ask(`api/records?${parts}`);
  }

  #add({ rows, total, until }) {
    this.total = total;
    this.#until = until;
    const known = new Set(this.rows.map((row) => row.key));
    const added = rows.filter((row) => !known.has(row.key));
    this.rows.push(...added);
    this.#list.append(...added.map(item_of));
    byId("count").textContent = `${total.toLocaleString("en")} image${total === 1 ? "" : "s"} in this list`;
  }
}

function item_of(row) {
  const item = element("li");
  const image = element("img");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.src = picture("thumbnail", row);
  const text = element("div");
  const name = element("b");
  name.append(element("bdi", row.key));
  name.title = row.key;
  const state = element("div");
  state.append(element("span", row.status, "badge", row.status));
  if (row.decision) state.append(element("span", NAMES[row.decision], "badge", row.decision));
  const figures = [];
  if (row.residual_objects) figures.push(`${row.residual_objects} still found`);
  if (row.likeness !== null) figures.push(`likeness ${row.likeness.toFixed(2)}`);
  if (row.seam !== null) figures.push(`seam ${row.seam.toFixed(2)}`);
  if (row.mask_fraction) figures.push(`mask ${(100 * row.mask_fraction).toFixed(1)} %`);
  text.append(name, state, element("div", figures.join(" · "), "soft"));
  item.append(image, text);
  return item;
}

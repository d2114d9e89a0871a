// The review: decisions, keys, and what is shown of an image.
"use strict";

import { List, NAMES, element, picture } from "./list.js";
import { Stage } from "./stage.js";

const PAUSE_BEFORE_FILL = 500; // milliseconds after a stroke

const byId = (id) => document.getElementById(id);
const list = new List(ask, show);
const stage = new Stage(drawn);
const decided = []; // of this tab, to be undone: { key, id, previous }
let about = {};
let sequence = 0;
let record = null; // of the image that is shown
let fill = null; // ID of the fill that is shown and not yet decided
let filling = 0; // counts the fills that were asked for
let timer = 0;

function say(text, wrong = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("wrong", wrong);
}

// JSON from the server; null, and a message, where it says no.
async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    say("The server does not answer: is inpaint review still running?", true);
    return null;
  }
  const content = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (answer.ok) return content;
  say(content.error, true);
  return null;
}

async function show(row) {
  clearTimeout(timer);
  filling++;
  fill = record = null;
  byId("key").textContent = row ? row.key : "No image is left in this list";
  byId("figures").replaceChildren();
  state(row);
  stage.clear();
  if (!row) return;
  const found = await ask(`api/record?${new URLSearchParams({ key: row.key })}`);
  if (!found || list.row?.key !== row.key) return;
  list.update(row.key, decision_of(found));
  state(list.row);
  figures(found);
  const missing = await stage.show(pictures_of(found));
  if (list.row?.key !== row.key) return;
  record = found; // from here on it can be decided about: it was seen
  prefetch(list.rows[list.index + 1]);
  if (missing.length) say(`No picture: ${missing.join(", ")}. ${await reason(missing[0], found)}`, true);
}

function pictures_of(row) {
  const redo = row.decision === "redo" && row.mask;
  return {
    before: about.input && picture("before", row),
    after: row.status === "failed" && !redo ? null : redo ? picture("fill", row, row.mask) : picture("after", row),
    mask: redo ? picture("drawn", row, row.mask) : row.mask_fraction ? picture("mask", row) : null,
  };
}

// The browser keeps the pictures of the next image.
function prefetch(row) {
  if (!row || row.decision === "redo") return;
  for (const address of Object.values(pictures_of(row))) if (address) new Image().src = address;
}

async function reason(kind, row) {
  const answer = await fetch(picture(kind, row)).catch(() => null);
  return answer && !answer.ok ? ((await answer.json().catch(() => ({}))).error ?? "") : "";
}

function decision_of({ decision, decided_by, decided_at, mask, decision_id }) {
  return { decision, decided_by, decided_at, mask, decision_id };
}

function state(row) {
  const parts = [];
  if (row) {
    parts.push(element("span", row.status, "badge", row.status));
    if (row.decision) {
      const when = new Date(row.decided_at).toLocaleString();
      parts.push(element("span", NAMES[row.decision], "badge", row.decision), element("span", `by ${row.decided_by}, ${when}`, "soft"));
    }
  }
  byId("state").replaceChildren(...parts);
}

function figures(found) {
  const entries = found.figures.map(([label, value]) => entry(label, value));
  if (found.width) entries.unshift(entry("size", `${found.width} × ${found.height} ${found.format}`));
  if (found.objects?.length) entries.push(entry("objects", found.objects.map((each) => `${each.label} (${each.confidence.toFixed(2)})`).join(", "), "text"));
  if (found.held_for?.length) entries.push(entry("held by rules", found.held_for.join(", "), "text"));
  if (found.retry_kept !== null) entries.push(entry("result of", `retry.${found.retry_kept}`));
  if (found.error) entries.push(entry(`failed at ${found.stage}`, found.error, "text"));
  if (found.note) entries.push(entry("note", found.note, "text"));
  byId("figures").replaceChildren(...entries);
}

function entry(label, value, ...classes) {
  const made = element("div", undefined, ...classes);
  made.append(element("dt", label), element("dd", value));
  return made;
}

function progress(counts) {
  byId("progress").textContent = `${counts.decided.toLocaleString("en")} of ${counts.images.toLocaleString("en")} decided, ${about.reviewer}`;
}

async function decide(decision) {
  if (!record) return void (list.row && say("Not decided: the image was not shown yet."));
  const { key } = record;
  const before = list.rows[list.find(key)] ?? record;
  const content = { key, decision, seen: before.decision_id };
  if (decision === "redo") content.fill = fill;
  const answer = await send(content);
  if (!answer) return void refresh(key);
  decided.push({ key, id: answer.decision_id, previous: before.decision ? { decision: before.decision, mask: before.mask } : null });
  take(key, answer);
  if (list.row?.key === key && !(await list.step(1))) show(list.row);
  say(`${key}: ${NAMES[decision]}`);
}

function send(content) {
  return ask("api/decide", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });
}

function take(key, answer) {
  list.update(key, decision_of(answer));
  if (list.row?.key === key) state(list.row);
  progress(answer.counts);
}

// What others decided about an image in the meantime.
async function refresh(key) {
  const answer = await fetch(`api/record?${new URLSearchParams({ key })}`).catch(() => null);
  if (!answer?.ok) return;
  list.update(key, decision_of(await answer.json()));
  if (list.row?.key === key) state(list.row);
}

async function undo() {
  if (stage.mode && stage.brush.undo()) return drawn();
  const last = decided.pop();
  if (!last) return say("There is nothing to undo.");
  const { key, id, previous } = last;
  const answer = await send({ key, decision: previous?.decision ?? "none", mask: previous?.mask ?? null, seen: id });
  if (!answer) return;
  take(key, answer);
  const index = list.find(key);
  if (index >= 0) list.choose(index);
  say(`${key}: taken back`);
}

// After a stroke: fill the mask, and show it.
function drawn() {
  clearTimeout(timer);
  filling++;
  fill = null;
  if (!stage.brush.drawn) return void (record && stage.showAfter(picture("after", record), false));
  timer = setTimeout(fill_drawn, PAUSE_BEFORE_FILL);
}

async function fill_drawn() {
  clearTimeout(timer);
  if (!record) return;
  if (!about.can_fill) return say("Masks cannot be filled: the settings or the input of the job are not known.", true);
  if (stage.brush.empty) return say("The mask is empty: press r to restore the original.");
  const asked = ++filling;
  const row = record;
  say("filling …");
  const answer = await ask(`api/fill?${new URLSearchParams({ key: row.key })}`, {
    method: "POST", headers: { "Content-Type": "image/png" }, body: await stage.brush.png(),
  });
  if (!answer || asked !== filling) return;
  await stage.showAfter(picture("fill", row, answer.fill), true);
  if (asked !== filling) return;
  fill = answer.fill;
  say("Filled. Press f to take this fill, u to undo the stroke.");
}

function redo() {
  if (fill) return decide("redo");
  if (!stage.mode) return mode("brush");
  return fill_drawn();
}

function mode(wanted) {
  stage.setMode(stage.mode === wanted ? "" : wanted);
  for (const name of ["brush", "eraser"]) does(name).setAttribute("aria-pressed", String(stage.mode === name));
  size();
}

function size() { byId("size").textContent = stage.mode ? `${stage.brush.size} px` : ""; }

function does(name) { return document.querySelector(`[data-does="${name}"]`); }

const ACTIONS = {
  next: async () => { if (!(await list.step(1))) say("This is the last image of the list."); },
  previous: async () => { if (!(await list.step(-1))) say("This is the first image of the list."); },
  accept: () => decide("accept"),
  restore: () => decide("restore"),
  hold: () => decide("hold"),
  redo,
  undo,
  brush: () => mode("brush"),
  eraser: () => mode("eraser"),
  larger: () => { stage.resize(1.25); size(); },
  smaller: () => { stage.resize(0.8); size(); },
  zoom: () => { stage.setFull(!stage.full); does("zoom").setAttribute("aria-pressed", String(stage.full)); },
  help: () => { const help = byId("help"); if (help.open) help.close(); else help.showModal(); },
};
const KEYS = { j: "next", k: "previous", a: "accept", r: "restore", h: "hold", f: "redo", u: "undo", m: "brush", e: "eraser", "+": "larger", "=": "larger", "-": "smaller", z: "zoom", "?": "help" };

// One after the other: a key that is pressed twice must not decide about the same image twice.
let busy = Promise.resolve();
function act(name) { busy = busy.then(() => ACTIONS[name]()).catch((error) => say(String(error), true)); }

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && !"jk+-".includes(event.key)) return;
  if (event.target.matches("input[type=search], select")) return;
  const name = KEYS[event.key];
  if (!name || (byId("help").open && name !== "help")) return;
  event.preventDefault();
  act(name);
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-does]");
  if (button) act(button.dataset.does);
});
byId("help-button").addEventListener("click", () => act("help"));

async function look() {
  const answer = await ask(`api/changes?since=${sequence}`);
  if (!answer) return;
  sequence = answer.until;
  progress(answer.counts);
  for (const row of answer.rows) {
    // The image that is shown keeps what was seen of it, so that nobody is overruled by accident.
    if (row.key !== list.row?.key) list.update(row.key, decision_of(row));
  }
}

async function begin() {
  const answer = await ask("api/about");
  if (!answer) return;
  about = answer;
  sequence = about.sequence;
  byId("where").textContent = about.input ? `${about.input} → ${about.output}` : about.output;
  document.title = `Review of ${about.output}`;
  progress(about.counts);
  list.offer(about);
  await list.restart();
  setInterval(look, 1000 * about.seconds_between_looks);
}
begin();

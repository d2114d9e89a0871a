// One image: before and after on both sides of a boundary, whole or at full size, and the brush over them.
"use strict";

import { Brush } from "./brush.js";

const byId = (id) => document.getElementById(id);

export class Stage {
  #stage = byId("stage");
  #frame = byId("frame");
  #canvas = byId("mask");
  #slider = byId("slider");
  #cursor = byId("cursor");
  #shown = 0; // counts the images, so that a late answer about an earlier one is known
  #width = 0;
  #height = 0;
  #stroke = null; // ID of the pointer that draws
  #pointer = null;
  #boundary = null; // where it was before a fill was shown

  // `drawn` is called after each stroke.
  constructor(drawn) {
    this.drawn = drawn;
    this.brush = new Brush(this.#canvas);
    this.mode = ""; // "", "brush" or "eraser"
    this.full = false;
    this.#slider.addEventListener("input", () => this.#divide());
    this.#stage.addEventListener("pointerdown", (event) => this.#down(event));
    this.#stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) this.#stage.addEventListener(end, (event) => this.#up(event));
    this.#stage.addEventListener("pointerleave", () => { this.#cursor.hidden = true; });
    new ResizeObserver(() => this.#fit()).observe(this.#stage);
  }

  clear() {
    this.#shown++;
    this.#width = this.#height = 0;
    this.#stage.classList.add("empty");
    this.#slider.value = this.#boundary ?? this.#slider.value;
    this.#boundary = null;
  }

  // Show an image. `after` and `mask` may be null. Resolves with a list of what could not be loaded.
  async show({ before, after, mask }) {
    this.clear();
    const shown = this.#shown;
    const [first, second, drawn] = await Promise.all([before, after, mask].map(loaded));
    if (shown !== this.#shown) return [];
    const known = first ?? second;
    for (const [id, picture] of [["before", first], ["after", second]]) {
      if (picture) byId(id).src = picture.src;
      byId(id).hidden = !picture;
    }
    this.#width = known?.naturalWidth ?? 0;
    this.#height = known?.naturalHeight ?? 0;
    if (known) {
      this.brush.start(this.#width, this.#height, drawn);
      this.#stage.classList.remove("empty");
    }
    this.#stage.style.setProperty("--ratio", known ? this.#width / this.#height : 1.5);
    this.#stage.classList.remove("filled");
    this.#slider.disabled = !(first && second);
    byId("divider").hidden = !(first && second);
    this.#fit();
    this.#divide();
    return [first || "before", second || !after || "after"].filter((part) => typeof part === "string");
  }

  // Another result, such as a fill of the drawn mask, which is then seen without the boundary.
  async showAfter(address, filled) {
    const shown = this.#shown;
    const picture = await loaded(address);
    if (picture && shown === this.#shown) {
      byId("after").src = picture.src;
      byId("after").hidden = false;
      this.#slider.disabled = byId("divider").hidden = byId("before").hidden;
      this.#stage.classList.toggle("filled", filled);
      if (filled) {
        this.#boundary ??= this.#slider.value;
        this.#slider.value = 0;
      }
      this.#divide();
    }
  }

  setMode(mode) {
    this.mode = mode;
    this.#canvas.hidden = !mode;
    this.#stage.classList.toggle("brush", Boolean(mode));
    this.#placeCursor();
  }

  setFull(full) {
    this.full = full;
    this.#stage.classList.toggle("full", full);
    this.#fit();
  }

  resize(factor) {
    this.brush.size = Math.min(Math.max(Math.round(this.brush.size * factor), 2), Math.max(this.#width, this.#height, 2));
    this.#placeCursor();
  }

  #fit() {
    if (!this.#width) return;
    const { clientWidth, clientHeight } = this.#stage;
    // Full size: one pixel of the image for each of the screen.
    const scale = this.full ? 1 / devicePixelRatio : Math.min(clientWidth / this.#width, clientHeight / this.#height, 4);
    this.#frame.style.width = `${this.#width * scale}px`;
    this.#frame.style.height = `${this.#height * scale}px`;
    this.#placeCursor();
  }

  #divide() {
    const both = !this.#slider.disabled;
    const share = this.#slider.value / 10;
    byId("after").style.clipPath = both ? `inset(0 0 0 ${share}%)` : "none";
    byId("divider").style.left = `${share}%`;
  }

  #point(event) {
    const box = this.#frame.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * this.#width) / box.width, y: ((event.clientY - box.top) * this.#height) / box.height };
  }

  #down(event) {
    if (event.button !== 0 || !this.#width) return;
    if (this.mode) {
      event.preventDefault();
      this.#stroke = event.pointerId;
      this.#stage.setPointerCapture(event.pointerId);
      this.#stage.classList.remove("filled");
      this.brush.begin(this.#point(event), this.mode === "eraser");
    } else if (!this.#slider.disabled && !this.full) {
      event.preventDefault();
      this.#stage.setPointerCapture(event.pointerId);
      this.#slide(event);
    }
  }

  #move(event) {
    this.#pointer = { x: event.clientX, y: event.clientY };
    this.#placeCursor();
    if (this.#stroke === event.pointerId) {
      const events = event.getCoalescedEvents?.() ?? [];
      this.brush.extend((events.length ? events : [event]).map((each) => this.#point(each)));
    } else if (!this.mode && event.buttons & 1 && this.#stage.hasPointerCapture(event.pointerId)) this.#slide(event);
  }

  #up(event) {
    if (this.#stroke !== event.pointerId) return;
    this.#stroke = null;
    this.drawn();
  }

  #slide(event) {
    this.#slider.value = Math.round((1000 * this.#point(event).x) / this.#width);
    this.#divide();
  }

  #placeCursor() {
    this.#cursor.hidden = !this.mode || !this.#pointer;
    if (this.#cursor.hidden) return;
    const size = (this.brush.size * this.#frame.getBoundingClientRect().width) / this.#width;
    Object.assign(this.#cursor.style, { left: `${this.#pointer.x}px`, top: `${this.#pointer.y}px`, width: `${size}px`, height: `${size}px` });
  }
}

function loaded(address) {
  if (!address) return null;
  return new Promise((resolve) => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => resolve(null);
    picture.src = address;
  });
}

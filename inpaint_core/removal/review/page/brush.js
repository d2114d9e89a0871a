// The mask as it is drawn: a canvas with one pixel for each of the image, opaque where pixels are to be filled.
"use strict";

const COLOUR = "rgb(230, 30, 60)";

export class Brush {
  #canvas;
  #context;
  #base = null; // the mask that the drawing began with
  #strokes = [];

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.size = 0;
  }

  get drawn() { return this.#strokes.length > 0; }

  // Begin with the mask of a result (a PNG, white where pixels were filled), or without one.
  start(width, height, png) {
    this.#canvas.width = width;
    this.#canvas.height = height;
    this.#strokes = [];
    this.#base = null;
    if (!this.size) this.size = Math.max(4, Math.round(Math.max(width, height) / 25));
    if (png && png.naturalWidth === width && png.naturalHeight === height) this.#base = tinted(png);
    this.#redraw();
  }

  begin(point, erase) {
    this.#strokes.push({ erase, size: this.size, points: [point] });
    this.#draw(this.#strokes.at(-1), 0);
  }

  extend(points) {
    const stroke = this.#strokes.at(-1);
    const from = stroke.points.length - 1;
    stroke.points.push(...points);
    this.#draw(stroke, from);
  }

  undo() {
    if (!this.#strokes.pop()) return false;
    this.#redraw();
    return true;
  }

  // Whether any pixel is to be filled.
  get empty() {
    const { width, height } = this.#canvas;
    const values = this.#context.getImageData(0, 0, width, height).data;
    for (let index = 3; index < values.length; index += 4) if (values[index] >= 128) return false;
    return true;
  }

  png() { return new Promise((resolve) => this.#canvas.toBlob(resolve, "image/png")); }

  #redraw() {
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (this.#base) this.#context.drawImage(this.#base, 0, 0);
    for (const stroke of this.#strokes) this.#draw(stroke, 0);
  }

  #draw({ erase, size, points }, from) {
    const context = this.#context;
    context.save();
    context.globalCompositeOperation = erase ? "destination-out" : "source-over";
    context.strokeStyle = context.fillStyle = COLOUR;
    context.lineWidth = size;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    if (points.length === 1) {
      context.arc(points[0].x, points[0].y, size / 2, 0, 2 * Math.PI);
      context.fill();
    } else {
      points.slice(from).forEach(({ x, y }, index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
    }
    context.restore();
  }
}

function tinted(png) {
  const canvas = new OffscreenCanvas(png.naturalWidth, png.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(png, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  const values = image.data;
  for (let index = 0; index < values.length; index += 4) {
    values[index + 3] = values[index] >= 128 ? 255 : 0;
    values[index] = 230; values[index + 1] = 30; values[index + 2] = 60;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/* The micrograph with its picks: a picture that CSS moves and filters, and a canvas over it for the circles. */

import { preview } from "./api.js";
import { ofScore } from "./colours.js";
import { basename, counted } from "./dom.js";

const MAX_ZOOM = 16;
const STEP = 1.4;
const PAN = 0.1;
const NICE = [1, 2, 5];
const UNKNOWN_RADIUS = 8;

/** Shows one micrograph. `onStep(+1 | -1)` is asked for a newer or an older one by keys. */
export class Viewer {
  constructor(stage, { onStep }) {
    this.stage = stage;
    this.picture = stage.querySelector("img");
    this.canvas = stage.querySelector("canvas");
    this.onStep = onStep;
    this.micrograph = null;
    this.threshold = 0;
    this.circles = true;
    this.filter = { contrast: 100, brightness: 100, blur: 0 };
    /* Zoom relative to the whole micrograph, and the point in the middle as fractions of width and height. */
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.pointers = new Map();
    this.picture.addEventListener("load", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(stage);
    this.#listen();
  }

  /** `micrograph`: an answer of /api/micrographs/{id}. The zoom stays, so that two can be compared. */
  show(micrograph) {
    const other = this.micrograph?.id !== micrograph.id || this.micrograph?.time !== micrograph.time;
    this.micrograph = micrograph;
    if (other) this.picture.src = `${preview(micrograph.id)}?t=${encodeURIComponent(micrograph.time)}`;
    this.picture.alt = basename(micrograph.name);
    this.draw();
  }

  /** Show nothing. */
  clear() {
    this.micrograph = null;
    this.picture.removeAttribute("src");
    this.canvas.width = 0;
  }

  setThreshold(threshold) {
    this.threshold = threshold;
    this.draw();
  }

  /** Percent, percent, and the sigma of a Gaussian in pixels of the preview. */
  setFilter(filter) {
    this.filter = filter;
    this.draw();
  }

  /** Å per pixel of the preview. */
  get pixelA() {
    const { pixel_size_A, width } = this.micrograph ?? { pixel_size_A: 0, width: 0 };
    return this.picture.naturalWidth ? (pixel_size_A * width) / this.picture.naturalWidth : 0;
  }

  /** Draw once before the next frame, however often it was asked for. */
  draw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.micrograph) this.#draw();
    });
  }

  #scale() {
    const { clientWidth, clientHeight } = this.stage;
    const { width, height } = this.micrograph;
    return Math.min(clientWidth / width, clientHeight / height) * this.view.zoom;
  }

  #draw() {
    const { width, height } = this.micrograph;
    const { clientWidth, clientHeight } = this.stage;
    this.#keepInside();
    const scale = this.#scale();
    const left = clientWidth / 2 - this.view.x * width * scale;
    const top = clientHeight / 2 - this.view.y * height * scale;
    const { naturalWidth } = this.picture;
    const { contrast, brightness, blur } = this.filter;
    this.picture.style.transform = `translate(${left}px, ${top}px) scale(${(width * scale) / (naturalWidth || width)})`;
    this.picture.style.filter = `blur(${blur}px) brightness(${brightness}%) contrast(${contrast}%)`;
    this.stage.classList.toggle("zoomed", this.view.zoom > 1);
    const density = window.devicePixelRatio || 1;
    this.canvas.width = clientWidth * density;
    this.canvas.height = clientHeight * density;
    const pen = this.canvas.getContext("2d");
    pen.scale(density, density);
    const drawn = this.#drawCircles(pen, left, top, width * scale, height * scale);
    this.#drawScaleBar(pen, scale);
    this.canvas.dataset.circles = drawn;
    this.canvas.setAttribute("aria-label", `${counted(drawn, "pick")} with a score of at least ${this.threshold.toFixed(2)}`);
  }

  #drawCircles(pen, left, top, width, height) {
    const { xy, score, diameter } = this.micrograph;
    const radius = diameter ? Math.max(2, (diameter * width) / 2) : UNKNOWN_RADIUS;
    let count = 0;
    for (const [i, [x, y]] of xy.entries()) {
      if (score[i] < this.threshold) continue;
      count += 1;
      if (!this.circles) continue;
      for (const [colour, line] of [["rgb(0 0 0 / 55%)", 3.5], [ofScore(score[i]), 1.6]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = line;
        pen.beginPath();
        pen.arc(left + x * width, top + y * height, radius, 0, 2 * Math.PI);
        pen.stroke();
      }
    }
    return count;
  }

  #drawScaleBar(pen, scale) {
    const perPixel = this.micrograph.pixel_size_A / scale / 10;
    const most = Math.min(160, this.stage.clientWidth / 4) * perPixel;
    const decade = 10 ** Math.floor(Math.log10(most));
    const length = decade * Math.max(...NICE.filter((nice) => nice * decade <= most));
    const [x, y, long] = [14, this.stage.clientHeight - 14, length / perPixel];
    pen.fillStyle = "rgb(0 0 0 / 60%)";
    pen.fillRect(x - 6, y - 22, long + 12, 30);
    pen.fillStyle = "#fff";
    pen.fillRect(x, y, long, 3);
    pen.font = "600 12px system-ui, sans-serif";
    pen.fillText(length >= 1000 ? `${length / 1000} µm` : `${length} nm`, x, y - 6);
  }

  #keepInside() {
    const { width, height } = this.micrograph;
    const scale = this.#scale();
    for (const [axis, size, room] of [["x", width, this.stage.clientWidth], ["y", height, this.stage.clientHeight]]) {
      const half = Math.min(0.5, room / (size * scale) / 2);
      this.view[axis] = Math.max(half, Math.min(1 - half, this.view[axis]));
    }
  }

  /** Zoom about a point of the stage, in CSS pixels from its top left; by default its middle. */
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    if (!this.micrograph) return;
    const before = this.#scale();
    this.view.zoom = Math.max(1, Math.min(MAX_ZOOM, this.view.zoom * factor));
    const change = 1 / before - 1 / this.#scale();
    this.view.x += ((x - this.stage.clientWidth / 2) * change) / this.micrograph.width;
    this.view.y += ((y - this.stage.clientHeight / 2) * change) / this.micrograph.height;
    this.draw();
  }

  /** Move the picture by so many CSS pixels. */
  pan(dx, dy) {
    if (!this.micrograph) return;
    const scale = this.#scale();
    this.view.x -= dx / scale / this.micrograph.width;
    this.view.y -= dy / scale / this.micrograph.height;
    this.draw();
  }

  /** Do what a button says: in, out, fit or circles. */
  act(name) {
    if (name === "in") this.zoom(STEP);
    if (name === "out") this.zoom(1 / STEP);
    if (name === "fit") this.zoom(0);
    if (name === "circles") {
      this.circles = !this.circles;
      this.stage.querySelector("[data-do=circles]").setAttribute("aria-pressed", String(this.circles));
      this.draw();
    }
  }

  #listen() {
    const { stage } = this;
    stage.querySelector(".tools").addEventListener("click", (event) => this.act(event.target.dataset.do));
    stage.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    stage.addEventListener("dblclick", (event) => this.#onPicture(event) && this.zoom(2, event.offsetX, event.offsetY));
    stage.addEventListener("pointerdown", (event) => this.#onDown(event));
    stage.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const name of ["pointerup", "pointercancel"])
      stage.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    stage.addEventListener("keydown", (event) => event.target === stage && this.#onKey(event));
  }

  #onPicture(event) {
    return event.target === this.canvas;
  }

  #onWheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.offsetX, event.offsetY);
  }

  #onDown(event) {
    if (!this.#onPicture(event)) return;
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  #onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((each) => each !== before);
    if (others.length) {
      const apart = (each) => Math.hypot(each.clientX - others[0].clientX, each.clientY - others[0].clientY);
      this.zoom(apart(event) / (apart(before) || 1));
    } else this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
    this.pointers.set(event.pointerId, event);
  }

  #onKey(event) {
    const { clientWidth: w, clientHeight: h } = this.stage;
    const does = {
      "+": () => this.act("in"), "=": () => this.act("in"), "-": () => this.act("out"), 0: () => this.act("fit"),
      c: () => this.act("circles"), PageUp: () => this.onStep(1), PageDown: () => this.onStep(-1),
      ArrowLeft: () => this.pan(PAN * w, 0), ArrowRight: () => this.pan(-PAN * w, 0),
      ArrowUp: () => this.pan(0, PAN * h), ArrowDown: () => this.pan(0, -PAN * h),
    }[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    does();
  }
}

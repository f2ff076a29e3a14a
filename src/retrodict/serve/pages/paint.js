// The brush: a copy of the frame that a person changes, and that the world then goes on from.

import { $, draw } from "./panes.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const MOST_UNDO = 40;

export class Brush {
  // apply(pixels) is called with the painted frame, ended() when painting is over, either way.
  constructor(apply, ended) {
    this.apply = apply;
    this.ended = ended;
    this.on = false;
    this.picking = false;
    this.canvas = $("pane-dream").querySelector("canvas");
    this.canvas.addEventListener("pointerdown", (event) => this.started(event));
    this.canvas.addEventListener("pointermove", (event) => this.moved(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { this.from = null; });
    addEventListener("keydown", (event) => this.pressed(event));
    addEventListener("paste", (event) => this.pasted(event));
    addEventListener("resize", () => this.place());
    $("size").addEventListener("input", () => { $("size-words").textContent = $("size").value; this.place(); });
    $("pick").addEventListener("click", () => this.pick(!this.picking));
    $("undo").addEventListener("click", () => this.undo());
    $("apply").addEventListener("click", () => this.done(true));
    $("cancel").addEventListener("click", () => this.done(false));
    $("picture").addEventListener("change", async () => {
      const [file] = $("picture").files;
      if (file) await this.put(file);
      $("picture").value = "";
    });
  }

  start(picture) {
    this.on = true;
    this.frame = { ...picture, pixels: picture.pixels.slice() };
    this.before = [];
    this.at = [picture.width >> 1, picture.height >> 1];
    this.from = null;
    this.pick(false);
    $("tools").hidden = false;
    $("brush").hidden = false;
    this.show();
  }

  done(keep) {
    if (!this.on) return;
    this.on = false;
    $("tools").hidden = true;
    $("brush").hidden = true;
    if (keep && this.before.length) this.apply(this.frame.pixels);
    this.ended(keep && this.before.length > 0);
  }

  show() {
    draw(this.canvas, this.frame);
    $("undo").disabled = !this.before.length;
    $("apply").disabled = !this.before.length;
    this.place();
  }

  // Puts the mark of the brush over the canvas.
  place() {
    if (!this.on) return;
    const scale = this.canvas.clientWidth / this.frame.width;
    const size = Number($("size").value);
    const mark = $("brush").style;
    const corner = this.at.map((at) => (at - (size >> 1)) * scale);
    mark.left = `${this.canvas.offsetLeft + corner[0]}px`;
    mark.top = `${this.canvas.offsetTop + corner[1]}px`;
    mark.width = mark.height = `${size * scale}px`;
  }

  pick(on) {
    this.picking = on;
    $("pick").setAttribute("aria-pressed", String(on));
  }

  keep() {
    this.before.push(this.frame.pixels.slice());
    if (this.before.length > MOST_UNDO) this.before.shift();
  }

  undo() {
    const pixels = this.before.pop();
    if (pixels) this.frame.pixels = pixels;
    this.show();
  }

  where(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.frame.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.frame.height);
    return [Math.max(0, Math.min(this.frame.width - 1, x)), Math.max(0, Math.min(this.frame.height - 1, y))];
  }

  started(event) {
    if (!this.on || event.button) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.at = this.where(event);
    if (this.picking) this.take();
    else {
      this.keep();
      this.from = this.at;
      this.line(this.at, this.at);
    }
  }

  moved(event) {
    if (!this.on) return;
    this.at = this.where(event);
    if (this.from) {
      this.line(this.from, this.at);
      this.from = this.at;
    } else this.place();
  }

  take() {
    const [x, y] = this.at;
    const at = 3 * (y * this.frame.width + x);
    const hex = [...this.frame.pixels.slice(at, at + 3)].map((v) => v.toString(16).padStart(2, "0")).join("");
    $("colour").value = `#${hex}`;
    this.pick(false);
    this.place();
  }

  line([x0, y0], [x1, y1]) {
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
    for (let i = 0; i <= steps; i++) this.dab(Math.round(x0 + ((x1 - x0) * i) / steps), Math.round(y0 + ((y1 - y0) * i) / steps));
    this.show();
  }

  dab(x, y) {
    const size = Number($("size").value);
    const colour = [1, 3, 5].map((i) => parseInt($("colour").value.slice(i, i + 2), 16));
    const { width, height, pixels } = this.frame;
    for (let v = y - (size >> 1); v < y - (size >> 1) + size; v++) {
      for (let u = x - (size >> 1); u < x - (size >> 1) + size; u++) {
        if (u >= 0 && v >= 0 && u < width && v < height) pixels.set(colour, 3 * (v * width + u));
      }
    }
  }

  pressed(event) {
    if (!this.on || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") return this.done(false);
    if (event.target.closest?.("button, input, summary")) return undefined;
    const step = STEPS[event.key];
    if (step) {
      this.at = [
        Math.max(0, Math.min(this.frame.width - 1, this.at[0] + step[0])),
        Math.max(0, Math.min(this.frame.height - 1, this.at[1] + step[1])),
      ];
      this.place();
    } else if (event.key === " ") {
      this.keep();
      this.line(this.at, this.at);
    } else if (event.key === "p" || event.key === "P") this.take();
    else if (event.key === "Enter") this.done(true);
    else return undefined;
    event.preventDefault();
    return undefined;
  }

  async pasted(event) {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    if (!this.on || !file) return;
    event.preventDefault();
    await this.put(file);
  }

  // Puts a picture where the brush is; one that is larger than the frame is made to fit.
  async put(file) {
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture || !this.on) return;
    const { width, height } = this.frame;
    const scale = Math.min(1, width / picture.width, height / picture.height);
    const [w, h] = [Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale))];
    const board = new OffscreenCanvas(width, height).getContext("2d");
    const x = Math.max(0, Math.min(width - w, this.at[0] - (w >> 1)));
    const y = Math.max(0, Math.min(height - h, this.at[1] - (h >> 1)));
    board.drawImage(picture, x, y, w, h);
    const { data } = board.getImageData(0, 0, width, height);
    this.keep();
    for (let i = 0; i < width * height; i++) {
      const share = data[4 * i + 3] / 255;
      for (let c = 0; c < 3; c++) {
        const at = 3 * i + c;
        this.frame.pixels[at] = Math.round(data[4 * i + c] * share + this.frame.pixels[at] * (1 - share));
      }
    }
    this.show();
  }
}

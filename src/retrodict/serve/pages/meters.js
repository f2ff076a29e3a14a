// What is measured: how long a key takes to become a frame, and whether the world obeys.

import { $, percent } from "./panes.js";

const MOST = 50;
const GOAL = 120; // milliseconds
const SVG = "http://www.w3.org/2000/svg";

function shape(name, fields) {
  const element = document.createElementNS(SVG, name);
  for (const [field, value] of Object.entries(fields)) element.setAttribute(field, value);
  return element;
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export class Meters {
  constructor() {
    this.sent = new Map(); // press -> when
    this.latencies = [];
    this.verdicts = [];
    this.frames = [];
  }

  pressed(press) {
    this.sent.set(press, performance.now());
  }

  // Counts a frame that has been drawn; the first one that knows a press ends its wait.
  drawn(message) {
    const now = performance.now();
    if (message.ms.model === undefined) return;
    this.frames = [...this.frames.filter((at) => now - at < 2000), now];
    for (const [press, at] of this.sent) {
      if (press > message.press) continue;
      this.sent.delete(press);
      this.latencies = [...this.latencies, now - at].slice(-MOST);
    }
    this.model = message.ms.model;
    this.showLatency(message);
  }

  showLatency(message) {
    if (!this.latencies.length) return;
    const [half, most] = [quantile(this.latencies, 0.5), quantile(this.latencies, 0.95)];
    $("latency").textContent = `${half.toFixed(0)} ms`;
    const rate = this.frames.length > 2 ? ` ${((this.frames.length - 1) / ((this.frames.at(-1) - this.frames[0]) / 1000)).toFixed(0)} frames/s.` : "";
    const others = message.rows > 1 ? ` ${message.rows} players in one batch.` : "";
    $("latency-words").textContent = `Median of the last ${this.latencies.length}; 95 % within ${most.toFixed(0)} ms. The model takes ${this.model.toFixed(0)} ms.${rate}${others}`;
    const top = Math.max(GOAL * 1.25, ...this.latencies);
    const bars = this.latencies.map((ms, i) => shape("rect", { class: "bar", x: i * 4, width: 3, y: 40 - (40 * ms) / top, height: (40 * ms) / top }));
    const y = 40 - (40 * GOAL) / top;
    $("latencies").replaceChildren(...bars, shape("line", { class: "goal", x1: 0, x2: 200, y1: y, y2: y }));
  }

  judged({ right, pressed, read, share, of, by }) {
    if (right !== null) this.verdicts = [...this.verdicts, right].slice(-MOST); // null: what was pressed cannot be read
    $("obeyed").textContent = share === null ? "—" : percent(share);
    const agreed = read === pressed ? "and read as that" : `read as ${read}`;
    const last = right ? `Last: ${pressed}, ${agreed}.` : `Last: ${pressed} was pressed, ${read} was read.`;
    $("obeyed-words").textContent = `Of the last ${of} steps, as read by ${by}. ${last}`;
    const marks = this.verdicts.map((yes, i) => shape("rect", { class: yes ? "yes" : "no", x: i * 4 + 0.5, width: 2.5, y: yes ? 1 : 8, height: yes ? 14 : 7 }));
    $("verdicts").replaceChildren(...marks);
  }

  forget() {
    this.verdicts = [];
    $("obeyed").textContent = "—";
    $("verdicts").replaceChildren();
  }
}

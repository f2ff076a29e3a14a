// Keys of a keyboard, a finger and a gamepad, all as one list of what is held, in the order of pressing.

import { $, draw, made, percent } from "./panes.js";

const CAPS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };
const SPOKEN = { "←": "left arrow", "→": "right arrow", "↑": "up arrow", "↓": "down arrow" };
const cap = (button) => CAPS[button] ?? button.replace(/^(Key|Digit)/, "");
const WRITING = "input:not([type=range]):not([type=radio]), textarea, select";
const PAD_TIME = { 9: "run", 4: "back", 5: "forth" };
const STICK = 0.5;
const LAID = ["id", "name", "place", "buttons"]; // what decides where a key lies
const find = (id) => document.querySelector(`[data-key="${CSS.escape(id)}"]`);

export class Keys {
  // change(held, wentDown) is called when what is held changes; time(what) for run, step, back, forth.
  constructor(change, time, busy) {
    this.change = change;
    this.time = time;
    this.busy = busy; // true while the arrows are the brush's
    this.keys = [];
    this.down = new Map(); // source -> key
    this.padWas = new Set();
    addEventListener("keydown", (event) => this.pressed(event));
    addEventListener("keyup", (event) => this.release(event.code));
    addEventListener("blur", () => this.releaseAll());
    document.addEventListener("visibilitychange", () => this.releaseAll());
    addEventListener("gamepadconnected", () => this.poll());
  }

  // Lays the keys out: those with a place as a cross, the others in rows.
  show(keys, speech) {
    const same = keys.length === this.keys.length && keys.every((key, i) => LAID.every((field) => String(key[field]) === String(this.keys[i][field])));
    if (same && speech === this.speech) {
      for (const key of keys) if (key.kind === "toggle") find(key.id).setAttribute("aria-pressed", String(key.on));
      return;
    }
    this.speech = speech;
    this.releaseAll();
    const focused = document.activeElement?.dataset?.key;
    this.keys = keys;
    const placed = keys.filter((key) => key.place);
    const row = keys.filter((key) => !key.place);
    $("pad").replaceChildren(...placed.map((key) => this.button(key)));
    $("row").replaceChildren(...row.map((key) => this.button(key)));
    if (focused) find(focused)?.focus();
    if (this.measured?.speech === speech) this.effects(this.measured);
  }

  button(key) {
    const caps = key.buttons.map(cap);
    const words = made("span", { className: "cap" });
    if (caps.length) words.append(made("kbd", {}, caps[0]), " ");
    words.append(made("span", { className: "share" }));
    const name = made("bdi", { className: "name" }, key.name);
    const button = made("button", { type: "button", className: "key" }, made("canvas", { width: 1, height: 1 }), name, words);
    button.querySelector("canvas").setAttribute("aria-hidden", "true");
    button.dataset.key = key.id;
    if (key.place) button.dataset.place = key.place;
    if (key.kind === "toggle") button.setAttribute("aria-pressed", String(key.on));
    if (caps.length) button.setAttribute("aria-keyshortcuts", key.buttons.map((b) => CAPS[b] ? b : cap(b)).join(" "));
    button.setAttribute("aria-label", this.label(key, caps, null));
    button.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      button.setPointerCapture(event.pointerId);
      this.press(`pointer${event.pointerId}`, key.id);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(end, (event) => this.release(`pointer${event.pointerId}`));
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("click", (event) => {
      if (event.detail) return; // a pointer, which had its turn; 0 is a keyboard or a screen reader
      this.press("click", key.id);
      this.release("click");
    });
    return button;
  }

  label(key, caps, share) {
    const on = caps.length ? `, on ${caps.map((c) => SPOKEN[c] ?? c).join(" or ")}` : "";
    return `${key.name}${on}${share === null ? "" : `; changes ${percent(share)} of the picture`}`;
  }

  // Shows what each key changes: a small picture, and its share of the pixels.
  effects(message) {
    const { at, keys, changed, pictures } = message;
    this.measured = message;
    $("keys-words").textContent = `Each picture is measured: what one step of this key changed at frame ${at}.`;
    keys.forEach((id, i) => {
      const button = find(id);
      const key = this.keys.find((one) => one.id === id);
      if (!button || !key) return;
      draw(button.querySelector("canvas"), pictures[i]);
      button.querySelector(".share").textContent = percent(changed[i]);
      button.setAttribute("aria-label", this.label(key, key.buttons.map(cap), changed[i]));
    });
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(WRITING)) return;
    if (this.busy()) return;
    const onControl = event.target.closest?.("button, summary, a, input");
    if ([" ", "Enter"].includes(event.key) && onControl) return; // theirs
    if (event.target.type === "range" && event.key.startsWith("Arrow")) return;
    if (event.target.type === "radio" && event.key.startsWith("Arrow")) return;
    const what = { " ": "run", ".": "step", "[": "back", "]": "forth" }[event.key];
    const key = this.keys.find((one) => one.buttons.includes(event.code));
    if (!what && !key) return;
    event.preventDefault();
    if (event.repeat && what !== "back" && what !== "forth") return;
    if (what) this.time(what);
    else this.press(event.code, key.id);
  }

  press(source, id) {
    if (this.down.has(source)) return;
    this.down.set(source, id);
    this.told(true);
  }

  release(source) {
    if (this.down.delete(source)) this.told(false);
  }

  releaseAll() {
    if (!this.down.size) return;
    this.down.clear();
    this.told(false);
  }

  told(wentDown) {
    const held = [...new Set(this.down.values())];
    for (const button of document.querySelectorAll("[data-key]")) {
      button.classList.toggle("down", held.includes(button.dataset.key));
    }
    this.change(held, wentDown);
  }

  // Reads gamepads once a frame, as browsers tell nothing by themselves.
  poll() {
    const pads = navigator.getGamepads().filter(Boolean);
    if (!pads.length && !this.padWas.size) return; // the last one that was unplugged has let its keys go
    const now = new Set();
    for (const pad of pads) {
      pad.buttons.forEach((button, i) => button.pressed && now.add(i));
      const [x = 0, y = 0] = pad.axes;
      if (x < -STICK) now.add(14);
      if (x > STICK) now.add(15);
      if (y < -STICK) now.add(12);
      if (y > STICK) now.add(13);
    }
    for (const i of now) {
      if (this.padWas.has(i) || this.busy()) continue;
      const key = this.keys.find((one) => one.pad === i);
      if (key) this.press(`pad${i}`, key.id);
      else if (PAD_TIME[i]) this.time(PAD_TIME[i]);
    }
    for (const i of this.padWas) if (!now.has(i)) this.release(`pad${i}`);
    this.padWas = now;
    requestAnimationFrame(() => this.poll());
  }
}

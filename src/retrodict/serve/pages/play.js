// The page: what is pressed is told to the server, what it tells is shown. Nothing that is told becomes markup.

import { Brush } from "./paint.js";
import { Keys } from "./keys.js";
import { Meters } from "./meters.js";
import { Wire } from "./wire.js";
import { $, made, showPanes } from "./panes.js";

const here = { at: 0, length: 1, branch: 0, branches: [], speech: "", running: false, other: -1, dream: null, press: 0, notes: [] };
const meters = new Meters();
const brush = new Brush((pixels) => wire.paint(pixels), (kept) => {
  document.body.classList.remove("painting");
  $("paint").setAttribute("aria-pressed", "false");
  if (!kept && here.dream) wire.tell("rewind", { to: here.at });
  $("stage").focus();
});
const keys = new Keys(
  (held, wentDown) => {
    if (wentDown) meters.pressed(++here.press);
    wire.tell("hold", { keys: held, press: here.press });
  },
  (what) => $(what).click(),
  () => brush.on,
);

const heard = {
  welcome(message) {
    $("title").textContent = message.title;
    document.title = `${message.title} · play · retrodict`;
    $("speeches").hidden = message.speeches.length < 2;
    $("event").hidden = !message.event;
    $("task").hidden = !message.task;
    $("task-words").textContent = message.task;
    $("again-words").textContent = message.levels ? "New level" : "Start again";
    if (!message.judge) $("obeyed-words").textContent = "Nothing in this run can say what was pressed: it has no inverse model that speaks as its keys do, and its world cannot judge itself, or not in time.";
    here.notes = message.notes;
    heard.real({ name: message.real, why: message.why });
  },
  real({ name, why }) {
    $("real-name").textContent = name ?? "";
    const notes = [...here.notes, ...(name ? [] : [`No real world beside: ${why}.`])];
    $("notes").replaceChildren(...notes.map((words) => made("li", {}, words)));
    $("notes").hidden = !notes.length;
  },
  keys(message) {
    if (here.speech && here.speech !== message.speech) meters.forget();
    here.speech = message.speech;
    for (const radio of document.querySelectorAll("[name=speech]")) radio.checked = radio.value === message.speech;
    keys.show(message.keys, message.speech);
    showNames(message.keys);
  },
  effects(message) {
    if (message.speech === here.speech) keys.effects(message);
  },
  frame(message) {
    Object.assign(here, { at: message.at, length: message.length, branch: message.branch, dream: message.pictures[0] });
    if (!brush.on) showPanes(message);
    meters.drawn(message);
    $("moment").max = message.length - 1;
    $("moment").value = message.at;
    $("moment").setAttribute("aria-valuetext", `frame ${message.at} of ${message.length - 1}`);
    $("moment-words").textContent = `${message.at} / ${message.length - 1}`;
    $("back").disabled = message.at === 0;
    $("forth").disabled = message.at >= message.length - 1;
    const branch = here.branches[message.branch];
    if (branch) branch.length = message.length;
    if (message.other !== here.other) {
      here.other = message.other;
      showBranches();
    } else showTracks();
  },
  branches(message) {
    Object.assign(here, { branches: message.branches, branch: message.branch });
    showBranches();
  },
  running({ on, waits }) {
    here.running = on;
    if (on && waits) say("This world has no action for nothing: time goes on while a key is held.");
    $("run").setAttribute("aria-pressed", String(on));
    $("run-words").textContent = on ? "Stop time" : "Real time";
  },
  judged: (message) => meters.judged(message),
  saving: () => say("Saving …"),
  saved({ episodes, steps, videos, folder }) {
    say(episodes ? `Saved ${steps} steps in ${episodes} episodes and ${videos} videos in ${folder}.` : "Nothing is new since it was last saved.");
  },
  error({ text }) {
    meters.sent.clear(); // a press that failed has no frame
    $("alert-words").textContent = text;
    $("alert").hidden = false;
    $("told").textContent = "";
  },
};

const wire = new Wire(
  (message) => heard[message.kind]?.(message),
  (on, words) => {
    $("line").classList.toggle("on", on);
    $("line-words").textContent = words;
    if (!on) heard.running({ on: false });
  },
);

function say(words) {
  $("told").textContent = words;
}

function showNames(list) {
  if ($("names").contains(document.activeElement)) return; // someone is writing there
  $("names").replaceChildren(...list.map((key) => {
    const input = made("input", { type: "text", value: key.name === key.label ? "" : key.name, maxLength: 40, placeholder: key.label, autocomplete: "off" });
    input.addEventListener("change", () => wire.tell("name", { key: key.id, name: input.value.trim() }));
    return made("label", {}, made("bdi", {}, key.label), input);
  }));
}

function showBranches() {
  $("other-name").textContent = here.branches[here.other]?.name ?? "";
  const focused = [...$("branches").querySelectorAll("button")].indexOf(document.activeElement);
  $("branches").replaceChildren(...here.branches.map((branch, i) => {
    const go = made("button", { type: "button", className: "go" }, made("bdi", {}, branch.name));
    go.addEventListener("click", () => wire.tell("switch", { branch: i }));
    const compare = made("button", { type: "button", className: "quiet" }, "Compare");
    compare.setAttribute("aria-label", `Compare with ${branch.name}`);
    compare.setAttribute("aria-pressed", String(here.other === i));
    compare.addEventListener("click", () => {
      wire.tell("compare", { branch: here.other === i ? -1 : i }); // the frame that answers says what is compared
    });
    const item = made("li", {}, go, made("span", { className: "track" }, made("i"), made("b")), made("span", { className: "acts" }, compare));
    item.querySelector(".track").setAttribute("aria-hidden", "true");
    return item;
  }));
  if (focused >= 0) $("branches").querySelectorAll("button")[focused]?.focus();
  showTracks();
}

// Draws every branch on one axis of time, and where we stand.
function showTracks() {
  const longest = Math.max(2, ...here.branches.map((branch) => branch.length));
  [...$("branches").children].forEach((item, i) => {
    const branch = here.branches[i];
    const own = i === here.branch;
    if (own) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
    const style = item.querySelector(".track").style;
    const share = (at) => `${(100 * at) / (longest - 1)}%`;
    const from = Math.max(0, branch.fork - 1);
    style.setProperty("--from", share(from));
    style.setProperty("--long", share(branch.length - 1 - from));
    style.setProperty("--at", share(here.at));
    item.querySelector(".track b").hidden = !own;
    item.querySelector(".go").setAttribute("aria-label", `${branch.name}, ${branch.length} frames${own ? ", you are here" : ""}`);
  });
}

$("run").addEventListener("click", () => wire.tell("run", { on: !here.running }));
$("step").addEventListener("click", () => { meters.pressed(++here.press); wire.tell("step", { press: here.press }); });
const go = (to) => to >= 0 && to < here.length && wire.tell("rewind", { to: (here.at = to) });
$("back").addEventListener("click", () => go(here.at - 1));
$("forth").addEventListener("click", () => go(here.at + 1));
$("again").addEventListener("click", () => wire.tell("start", { level: -1 }));
$("save").addEventListener("click", () => wire.tell("save"));
$("measure").addEventListener("click", () => wire.tell("measure"));
$("alert-close").addEventListener("click", () => { $("alert").hidden = true; });
$("paint").addEventListener("click", () => {
  if (brush.on) return brush.done(false);
  if (!here.dream) return undefined;
  if (here.running) wire.tell("run", { on: false });
  document.body.classList.add("painting");
  $("paint").setAttribute("aria-pressed", "true");
  brush.start(here.dream);
  $("stage").focus();
  return undefined;
});
$("event").addEventListener("submit", (event) => {
  event.preventDefault();
  wire.tell("event", { text: $("event-words").value.trim() });
  $("event-words").value = "";
});
for (const radio of document.querySelectorAll("[name=speech]")) {
  radio.addEventListener("change", () => wire.tell("speak", { speech: radio.value }));
}

// Dragging along time asks for one moment after the other, not for all at once.
let wanted = null;
$("moment").addEventListener("input", () => {
  const idle = wanted === null;
  wanted = Number($("moment").value);
  if (idle) setTimeout(() => { wire.tell("rewind", { to: wanted }); wanted = null; }, 30);
});

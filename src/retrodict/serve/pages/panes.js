// Frames on canvases, pixel by pixel.

export const $ = (id) => document.getElementById(id);

export function made(tag, fields = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children); // text nodes: nothing that is told becomes markup
  return element;
}

export function percent(share) {
  return share > 0 && share < 0.01 ? `${(100 * share).toFixed(1)} %` : `${Math.round(100 * share)} %`;
}

export function draw(canvas, { width, height, pixels }) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < pixels.length; to += 4) {
    image.data[to] = pixels[from++];
    image.data[to + 1] = pixels[from++];
    image.data[to + 2] = pixels[from++];
    image.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const ENDS = { over: "its episode is over", won: "its goal is reached" };

// Shows a frame message: the dream, the real world and the compared branch, each with its words.
export function showPanes(message) {
  const shown = new Set(message.panes);
  message.panes.forEach((name, i) => draw($(`pane-${name}`).querySelector("canvas"), message.pictures[i]));
  for (const name of ["real", "other"]) {
    $(`pane-${name}`).hidden = !shown.has(name);
    if (!shown.has(name)) continue;
    const share = message.differs[name];
    let words = share ? `differs in ${percent(share)} of its pixels` : "the same picture";
    if (name === "real" && message.over) words += ` · ${message.won ? ENDS.won : ENDS.over}`;
    $(`${name}-words`).textContent = words;
  }
  $("stage").dataset.shown = shown.size;
  const led = ["where it began", message.led, "after the brush"][message.by];
  $("dream-words").textContent = led;
  for (const name of shown) {
    const what = { dream: "dreamt frame", real: "real frame", other: "frame of the other branch" }[name];
    $(`pane-${name}`).querySelector("canvas").setAttribute("aria-label", `${what} ${message.at} of ${message.length - 1}, ${led}`);
  }
}

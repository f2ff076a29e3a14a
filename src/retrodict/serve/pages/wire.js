// The websocket: who we are, what we tell, what we are told. Pictures come as binary messages with a JSON header.

const PROTOCOL = "retrodict.1";
const GONE = new Set([1008, 4000, 4001]); // told why; asking again would not help

// The token stands in the address's fragment, which no browser sends. It moves to this tab's own memory.
function token() {
  const shown = location.hash.slice(1);
  if (shown) {
    sessionStorage.setItem("token", shown);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token") ?? "";
}

function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  header.pictures = header.pictures.map(([width, height]) => {
    const pixels = new Uint8Array(buffer, at, 3 * width * height);
    at += pixels.length;
    return { width, height, pixels };
  });
  return header;
}

export class Wire {
  // hear(message) is called with everything the server tells, line(state, words) when the connection changes.
  constructor(hear, line) {
    this.hear = hear;
    this.line = line;
    this.tries = 0;
    this.socket = null;
    this.token = token();
    addEventListener("pagehide", () => this.socket?.close());
    addEventListener("hashchange", () => { this.token = token(); this.tries = 0; this.open(); });
    this.open();
  }

  open() {
    if (!/^[\w-]{20,}$/.test(this.token)) {
      this.line(false, "Open the whole address that the terminal shows: its end is the key to this page.");
      return;
    }
    this.socket?.close();
    const socket = new WebSocket(`ws://${location.host}/socket`, [PROTOCOL, this.token]);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.tries = 0;
      this.line(true, "connected");
      this.tell("sit", { seat: sessionStorage.getItem("seat") ?? "" });
    };
    socket.onmessage = ({ data }) => {
      const message = typeof data === "string" ? JSON.parse(data) : unpacked(data);
      if (message.kind === "seat") sessionStorage.setItem("seat", message.seat);
      else this.hear(message);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.tries += 1;
      if (GONE.has(code)) this.line(false, `closed: ${reason}`);
      else {
        const long = this.tries > 5;
        this.line(false, long ? "no answer: is retrodict play still running? Its address has a new end each time." : "connecting again");
        setTimeout(() => this.socket ?? this.open(), long ? 5000 : 400 * this.tries);
      }
    };
  }

  tell(what, fields = {}) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ do: what, ...fields }));
  }

  paint(pixels) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(pixels);
  }
}

"use strict";

const LONGEST = 200000; // characters that the page keeps

// What keys send that are not characters.
const KEYS = {
  Enter: "\r",
  Backspace: "\x7f",
  Tab: "\t",
  Escape: "\x1b",
  ArrowUp: "\x1b[A",
  ArrowDown: "\x1b[B",
  ArrowRight: "\x1b[C",
  ArrowLeft: "\x1b[D",
};

const screen = document.getElementById("screen");
const main = document.querySelector("main");
const keys = document.getElementById("keys");
const status = document.getElementById("status");
const interrupt = document.getElementById("interrupt");

const decoder = new TextDecoder();
let before = ""; // the lines above the last
let line = ""; // the last line
let column = 0; // where the cursor is in it

function write(text) {
  // Colours and the like: a terminal that calls itself dumb should see none.
  for (const char of text.replace(/\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07\x1b]*(\x07|\x1b\\))/g, "")) {
    if (char === "\n") {
      before += `${line}\n`;
      line = "";
      column = 0;
    } else if (char === "\r") {
      column = 0;
    } else if (char === "\b") {
      column = Math.max(0, column - 1);
    } else if (char === "\t") {
      write(" ".repeat(8 - (column % 8)));
    } else if (char >= " ") {
      line = line.slice(0, column).padEnd(column) + char + line.slice(column + 1);
      column += 1;
    }
  }
}

function draw() {
  before = before.slice(-LONGEST);
  const cursor = document.createElement("span");
  cursor.id = "cursor";
  cursor.textContent = line[column] || " ";
  // As text, never as markup.
  screen.replaceChildren(before + line.slice(0, column), cursor, line.slice(column + 1));
  main.scrollTop = main.scrollHeight;
}

// How many characters the page has room for.
function measure() {
  const probe = document.createElement("span");
  probe.id = "probe";
  probe.textContent = "0".repeat(100);
  screen.append(probe);
  const box = probe.getBoundingClientRect();
  probe.remove();
  const style = getComputedStyle(main);
  const height = main.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
  return {
    columns: Math.floor((screen.clientWidth * 100) / box.width),
    // The field for keys is below the last line.
    rows: Math.floor((height - keys.offsetHeight) / box.height),
  };
}

let size = measure();
const { url } = document.body.dataset;
const socket = new WebSocket(`${url}?columns=${size.columns}&rows=${size.rows}`);
socket.binaryType = "arraybuffer";
socket.addEventListener("open", () => show("open", "Connected"));
socket.addEventListener("message", (event) => {
  write(decoder.decode(event.data, { stream: true }));
  draw();
});
socket.addEventListener("close", (event) => {
  show("closed", `${event.reason || "Disconnected."} Reload the page for another.`);
});

// A page in the back/forward cache would keep its connection, and nobody would be there.
window.addEventListener("pagehide", () => socket.close());

function show(state, text) {
  status.dataset.state = state;
  status.textContent = text;
  interrupt.disabled = state !== "open";
}

function send(data) {
  if (socket.readyState === WebSocket.OPEN) {
    socket.send(data);
  }
}

// Keys are text, and sizes are binary: rows and columns, two bytes each.
new ResizeObserver(() => {
  const { columns, rows } = measure();
  if (columns === size.columns && rows === size.rows) {
    return;
  }
  size = { columns, rows };
  const data = new DataView(new ArrayBuffer(4));
  data.setUint16(0, rows);
  data.setUint16(2, columns);
  send(data);
  main.scrollTop = main.scrollHeight;
}).observe(main);

keys.addEventListener("keydown", (event) => {
  const letter = event.key.length === 1 && event.key.toLowerCase();
  if (event.isComposing || event.metaKey || event.altKey) {
    return;
  }
  if (event.ctrlKey && !event.shiftKey && letter >= "a" && letter <= "z" && letter !== "v") {
    send(String.fromCharCode(letter.charCodeAt(0) - 96));
  } else if (!event.ctrlKey && event.key in KEYS && !(event.shiftKey && event.key === "Tab")) {
    send(KEYS[event.key]);
  } else {
    return;
  }
  event.preventDefault();
});
// Characters: what a keyboard on the screen writes, or the clipboard.
keys.addEventListener("input", (event) => {
  if (!event.isComposing) {
    send(keys.value.replace(/\r?\n/g, "\r"));
    keys.value = "";
  }
});
keys.addEventListener("compositionend", () => {
  send(keys.value);
  keys.value = "";
});
interrupt.addEventListener("click", () => {
  send("\x03");
  keys.focus();
});
// A click into the terminal means its keyboard, unless it selects something to copy.
main.addEventListener("mouseup", () => {
  if (getSelection().isCollapsed) {
    keys.focus({ preventScroll: true });
  }
});

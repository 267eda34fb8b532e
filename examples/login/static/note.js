"use strict";

const LOGGED_OUT = 4001;
const RETRY = 2000;

const note = document.getElementById("note");
const status = document.getElementById("status");

let socket = null;

function show(state, text) {
  status.dataset.state = state;
  status.textContent = text;
  note.disabled = state !== "open";
}

function connect() {
  show("connecting", "Connecting…");
  let opened = false;
  socket = new WebSocket(note.dataset.url);
  socket.addEventListener("open", () => {
    opened = true;
    show("open", "Connected");
  });
  socket.addEventListener("message", (event) => {
    note.value = JSON.parse(event.data).note;
  });
  socket.addEventListener("close", (event) => {
    if (event.code === LOGGED_OUT) {
      // The form that comes instead says why.
      sessionStorage.setItem("reason", event.reason);
      location.reload();
    } else if (opened) {
      show("closed", "Disconnected");
      setTimeout(connect, RETRY);
    } else {
      retry();
    }
  });
}

// A page is not told why a handshake failed. Ask: is the server away, or are we logged out?
async function retry() {
  show("closed", "Disconnected");
  try {
    const page = await fetch(location.href);
    if (page.ok && !(await page.text()).includes('id="note"')) {
      location.reload();
      return;
    }
  } catch {
    // The server is away.
  }
  setTimeout(connect, RETRY);
}

// A page in the back/forward cache would keep its connection, and nobody would be there.
window.addEventListener("pagehide", () => socket.close());

note.addEventListener("input", () => socket.send(note.value));
connect();

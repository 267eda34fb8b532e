"use strict";

const PIECE = Number(document.body.dataset.piece);
const AHEAD = Number(document.body.dataset.ahead) * PIECE;

const input = document.getElementById("files");
const drop = document.getElementById("drop");
const list = document.getElementById("list");
const template = document.getElementById("row");

// One file after the other.
let queue = Promise.resolve();

function add(files) {
  for (const file of files) {
    const row = new Row(file);
    queue = queue.then(() => row.upload());
  }
}

class Row {
  constructor(file) {
    this.file = file;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.find(".name").textContent = file.name;
    this.find(".size").textContent = bytes(file.size);
    this.find("button").addEventListener("click", () => this.cancel());
    this.socket = null;
    list.prepend(this.element);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  say(text, state = "") {
    this.find(".state").textContent = text;
    this.element.dataset.state = state;
    this.find("button").hidden = state !== "";
  }

  cancel() {
    this.say("Cancelled", "failed");
    this.socket?.close();
  }

  // Resolves when the connection is closed, whatever became of the file.
  upload() {
    if (this.element.dataset.state) {
      return null;
    }
    return new Promise((resolve) => {
      const socket = (this.socket = new WebSocket(document.body.dataset.url));
      const started = performance.now();
      let sent = 0;
      // What the server has, not what has left the browser, is the progress.
      const receive = (received) => {
        while (sent < this.file.size && sent - received < AHEAD) {
          socket.send(this.file.slice(sent, sent + PIECE));
          sent += PIECE;
        }
        const speed = received / ((performance.now() - started) / 1000);
        this.find("progress").value = this.file.size ? received / this.file.size : 1;
        this.say(`${bytes(received)}, ${bytes(speed)}/s`);
      };
      socket.addEventListener("open", () => {
        socket.send(JSON.stringify({ name: this.file.name, size: this.file.size }));
        receive(0);
      });
      socket.addEventListener("message", (event) => {
        const message = JSON.parse(event.data);
        if ("sha256" in message) {
          this.find("progress").value = 1;
          this.say(`Saved. SHA-256 ${message.sha256.slice(0, 16)}…`, "saved");
        } else {
          receive(message.received);
        }
      });
      socket.addEventListener("close", (event) => {
        if (!this.element.dataset.state) {
          this.say(event.reason || `The connection was lost (${event.code}).`, "failed");
        }
        resolve();
      });
    });
  }
}

function bytes(number) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) {
    number /= 1000;
    unit += 1;
  }
  return `${number.toFixed(unit && number < 100 ? 1 : 0)} ${units[unit]}`;
}

input.addEventListener("change", () => {
  add(input.files);
  input.value = "";
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
drop.addEventListener("drop", (event) => add(event.dataTransfer.files));

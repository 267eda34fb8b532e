"use strict";

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15000;

const list = document.getElementById("messages");
const people = document.getElementById("people");
const status = document.getElementById("status");
const form = document.getElementById("form");
const nameBox = document.getElementById("name");
const textBox = document.getElementById("text");
const button = document.getElementById("send");

let socket = null;
let delay = FIRST_DELAY;
let timer = null;
// When the page tries again, by performance.now().
let due = 0;
// Is the end of the list in sight? Then it stays there.
let atEnd = true;
// What was said after the connection opened but before the history came; null once it came.
let waiting = [];
// What is shown, by id: what is said while the history is read can come twice.
let shown = new Set();

// A tab keeps its name when it is reloaded; another tab has its own.
nameBox.value = sessionStorage.getItem("name") || `Guest ${Math.floor(100 + Math.random() * 900)}`;
nameBox.addEventListener("change", () => {
  sessionStorage.setItem("name", nameBox.value);
});

function show(state, text) {
  status.dataset.state = state;
  status.textContent = text;
  button.disabled = state !== "open";
}

function countDown() {
  const left = Math.ceil((due - performance.now()) / 1000);
  if (left <= 0) {
    connect();
    return;
  }
  show("closed", `Disconnected. Next try in ${left} s`);
  // At the next whole second.
  timer = setTimeout(countDown, due - performance.now() - (left - 1) * 1000 + 1);
}

function connect() {
  clearTimeout(timer);
  timer = null;
  waiting = [];
  show("connecting", "Connecting…");
  socket = new WebSocket(document.body.dataset.url);
  socket.addEventListener("open", () => {
    delay = FIRST_DELAY;
    show("open", "Connected");
  });
  socket.addEventListener("message", (event) => receive(JSON.parse(event.data)));
  socket.addEventListener("close", () => {
    // Not all pages come back in the same moment after the server has restarted.
    const wait = delay * (0.75 + Math.random() / 2);
    delay = Math.min(delay * 2, LONGEST_DELAY);
    people.textContent = "";
    due = performance.now() + wait;
    countDown();
  });
}

// No need to wait when the network is back, or the tab is looked at again.
function hurry() {
  if (timer !== null && document.visibilityState === "visible") {
    connect();
  }
}
window.addEventListener("online", hurry);
document.addEventListener("visibilitychange", hurry);
// A page in the back/forward cache would keep its connection, and nobody would be there.
window.addEventListener("pagehide", () => socket.close());

function receive(message) {
  if ("history" in message) {
    shown = new Set();
    list.replaceChildren(...[...message.history, ...waiting].filter(isNew).map(entry));
    showEnd();
    waiting = null;
  } else if ("people" in message) {
    people.textContent = message.people === 1 ? "1 person" : `${message.people} people`;
  } else if (waiting !== null) {
    waiting.push(message);
  } else if (isNew(message)) {
    list.append(entry(message));
    // Whoever has scrolled up to read is left in peace.
    if (atEnd || message.name === nameBox.value.trim()) {
      showEnd();
    }
  }
}

function showEnd() {
  list.scrollTop = list.scrollHeight;
  atEnd = true;
}

let height = list.clientHeight;
list.addEventListener("scroll", () => {
  // While the window changes, nobody has scrolled.
  if (list.clientHeight === height) {
    atEnd = list.scrollHeight - list.scrollTop - height < 40;
  }
});
// A phone's keyboard takes half of the window: what was said last stays in sight.
new ResizeObserver(() => {
  height = list.clientHeight;
  if (atEnd) {
    showEnd();
  }
}).observe(list);

function isNew(message) {
  const before = shown.size;
  return shown.add(message.id).size > before;
}

// Only textContent: what people say is text, whatever it looks like.
function entry(message) {
  const item = document.createElement("li");
  item.classList.toggle("mine", message.name === nameBox.value.trim());
  const by = document.createElement("div");
  by.className = "by";
  const who = document.createElement("b");
  who.textContent = message.name;
  const when = document.createElement("time");
  const date = new Date(message.time);
  when.dateTime = date.toISOString();
  when.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  by.append(who, when);
  const said = document.createElement("p");
  said.className = "said";
  said.textContent = message.text;
  item.append(by, said);
  return item;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = nameBox.value.trim();
  const text = textBox.value.trim();
  if (socket.readyState !== WebSocket.OPEN || !name || !text) {
    return;
  }
  socket.send(JSON.stringify({ name, text }));
  textBox.value = "";
  textBox.focus();
});

connect();

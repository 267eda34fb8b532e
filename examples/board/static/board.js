"use strict";

const SIZE = Number(document.body.dataset.size);
const MOST_POINTS = Number(document.body.dataset.points);
const SEND_EVERY = 50; // milliseconds
const FIRST_DELAY = 500;
const LONGEST_DELAY = 15000;

const board = document.getElementById("board");
const canvas = document.getElementById("canvas");
const people = document.getElementById("people");
const status = document.getElementById("status");

let socket = null;
let delay = FIRST_DELAY;
let me = "";
// What is on the board, to draw it again when the window has another size.
let lines = [];
// Who is here, and the others' pens, by id.
let here = new Set();
const pens = new Map();
// The points of our line that have not been sent, and whether the pen is down.
let points = [];
let drawing = false;

function show(state, text) {
  status.dataset.state = state;
  status.textContent = text;
}

function connect() {
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
    show("closed", "Disconnected");
    setTimeout(connect, wait);
  });
}

// A page in the back/forward cache would keep its connection, and nobody would be there.
window.addEventListener("pagehide", () => socket.close());

function receive(message) {
  if ("you" in message) {
    // All that was drawn comes next.
    me = message.you;
    lines = [];
    for (const pen of pens.values()) {
      pen.remove();
    }
    pens.clear();
    redraw();
  } else if (message.type === "presence") {
    count(message);
  } else if ("line" in message) {
    lines.push(message);
    draw(message);
  } else {
    movePen(message.by, message.pen);
  }
}

function count({ event, key, members }) {
  if (event === "state") {
    here = new Set(Object.keys(members));
  } else if (event === "join") {
    here.add(key);
  } else if (event === "leave") {
    here.delete(key);
    pens.get(key)?.remove();
    pens.delete(key);
  }
  people.textContent = here.size === 1 ? "1 person" : `${here.size} people`;
}

// A colour for each, the same on every screen.
function colour(id) {
  const lightness = getComputedStyle(document.documentElement).getPropertyValue("--lightness");
  return `hsl(${(parseInt(id, 16) * 137) % 360} 75% ${lightness})`;
}

function movePen(id, place) {
  let pen = pens.get(id);
  if (!pen) {
    pen = document.createElement("div");
    pen.className = "pen";
    pen.style.background = colour(id);
    board.append(pen);
    pens.set(id, pen);
  }
  const [x, y] = place.map((n) => (n * board.clientWidth) / SIZE);
  pen.style.transform = `translate(${x}px, ${y}px)`;
}

function draw({ by, line }) {
  const context = canvas.getContext("2d");
  const scale = canvas.width / SIZE;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.strokeStyle = colour(by);
  context.lineWidth = 5;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  for (const [x, y] of line) {
    context.lineTo(x, y);
  }
  context.stroke();
}

function redraw() {
  // This clears it, too.
  canvas.width = canvas.height = Math.round(board.clientWidth * devicePixelRatio);
  lines.forEach(draw);
}

new ResizeObserver(redraw).observe(board);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

function place(event) {
  const box = canvas.getBoundingClientRect();
  const part = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  return part.map((n) => Math.round(Math.min(Math.max(n, 0), 1) * SIZE));
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  drawing = true;
  points = [place(event)];
});
canvas.addEventListener("pointermove", (event) => {
  const point = place(event);
  if (!drawing) {
    points = [point];
    return;
  }
  // At once on our own screen.
  draw({ by: me, line: [points.at(-1), point] });
  points.push(point);
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, () => {
    send();
    drawing = false;
    points = points.slice(-1);
  });
}

// Several points in a message: a mouse moves far more often than others can see.
function send() {
  if (socket.readyState !== WebSocket.OPEN) {
    return;
  }
  if (!drawing) {
    // Where the pen is, once.
    if (points.length > 0) {
      socket.send(JSON.stringify(points));
      points = [];
    }
    return;
  }
  while (points.length > 1) {
    const line = points.slice(0, MOST_POINTS);
    lines.push({ by: me, line });
    socket.send(JSON.stringify(line));
    // The line goes on from its last point.
    points = points.slice(line.length - 1);
  }
}
setInterval(send, SEND_EVERY);

connect();

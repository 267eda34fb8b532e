"use strict";

const SPAN = 60; // seconds that the plot shows
const LABELS = 34; // pixels beside it, for its labels
const FIRST_DELAY = 500;
const LONGEST_DELAY = 15000;

const status = document.getElementById("status");
const button = document.getElementById("pause");
const canvas = document.getElementById("plot");
const still = matchMedia("(prefers-reduced-motion: reduce)");

let socket = null;
let delay = FIRST_DELAY;
// When the page tries again, by performance.now().
let due = 0;
let paused = false;
let interval = 1;
let samples = [];
// The server's clock, less ours: in seconds.
let ahead = 0;

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
  setTimeout(countDown, due - performance.now() - (left - 1) * 1000 + 1);
}

function connect() {
  show("connecting", "Connecting…");
  socket = new WebSocket(document.body.dataset.url);
  socket.addEventListener("open", () => {
    delay = FIRST_DELAY;
    paused = false;
    button.textContent = "Pause";
    show("open", "Live");
  });
  socket.addEventListener("message", (event) => receive(JSON.parse(event.data)));
  socket.addEventListener("close", () => {
    // Not all pages come back in the same moment after the server has restarted.
    const wait = delay * (0.75 + Math.random() / 2);
    delay = Math.min(delay * 2, LONGEST_DELAY);
    due = performance.now() + wait;
    countDown();
  });
}

// A page in the back/forward cache would keep its connection, and nobody would be there.
window.addEventListener("pagehide", () => socket.close());

button.addEventListener("click", () => {
  paused = !paused;
  socket.send(paused ? "pause" : "resume");
  button.textContent = paused ? "Resume" : "Pause";
  status.textContent = paused ? "Paused" : "Live";
});

function receive(message) {
  if ("interval" in message) {
    interval = message.interval;
    // The server has nothing where nobody has looked; the page may.
    if (message.samples.length > 0) {
      samples = [];
    }
  }
  samples.push(...message.samples);
  if (samples.length === 0) {
    return;
  }
  const last = samples[samples.length - 1];
  ahead = last.time - Date.now() / 1000;
  while (samples.length > 2 && samples[1].time < last.time - SPAN - 2 * interval) {
    samples.shift();
  }
  document.getElementById("cpu").textContent = `${last.cpu.toFixed(0)} %`;
  document.getElementById("memory").textContent = `${last.memory.toFixed(0)} %`;
  document.getElementById("viewers").textContent = last.viewers;
  if (still.matches) {
    draw();
  }
}

function draw() {
  const colour = getComputedStyle(document.documentElement);
  const scale = devicePixelRatio;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const y = (value) => 8 + (1 - value / 100) * (height - 16);

  context.font = "12px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  context.lineWidth = 1;
  for (const value of [0, 25, 50, 75, 100]) {
    context.strokeStyle = colour.getPropertyValue("--line");
    context.beginPath();
    context.moveTo(LABELS, y(value));
    context.lineTo(width, y(value));
    context.stroke();
    context.fillStyle = colour.getPropertyValue("--quiet");
    context.fillText(value, LABELS - 8, y(value));
  }

  // One interval late, so that the newest sample slides in from the right.
  const now = (paused ? samples.at(-1)?.time : Date.now() / 1000 + ahead) - interval;
  const x = (time) => width - ((now - time) / SPAN) * (width - LABELS);
  context.save();
  context.beginPath();
  context.rect(LABELS, 0, width - LABELS, height);
  context.clip();
  context.lineWidth = 2;
  context.lineJoin = "round";
  for (const name of ["memory", "cpu"]) {
    context.strokeStyle = colour.getPropertyValue(`--${name}`);
    context.beginPath();
    let before = -Infinity;
    for (const sample of samples) {
      // Nothing is known of a time in which nothing was measured.
      const step = sample.time - before > 3 * interval ? "moveTo" : "lineTo";
      context[step](x(sample.time), y(sample[name]));
      before = sample.time;
    }
    context.stroke();
  }
  context.restore();
}

function animate() {
  if (!still.matches) {
    draw();
  }
  requestAnimationFrame(animate);
}

connect();
animate();

import { Live } from "flask-ws";

const list = document.getElementById("messages");
const people = document.getElementById("people");
const names = document.getElementById("names");
const status = document.getElementById("status");
const form = document.getElementById("form");
const nameBox = document.getElementById("name");
const textBox = document.getElementById("text");
const { url, room } = document.body.dataset;

// A tab is somebody, and keeps its name; also when it is reloaded. Another tab is somebody else.
const random = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
sessionStorage.secret ??= random();
nameBox.value = sessionStorage.name ?? `Guest ${Math.floor(100 + Math.random() * 900)}`;
nameBox.addEventListener("change", () => {
  sessionStorage.name = nameBox.value;
  join();
});

const live = new Live(`${url}?secret=${sessionStorage.secret}`);
const chat = live.subscribe(`chat:${room}`, { since: "all" });
join();

async function join() {
  const name = nameBox.value.trim();
  if (name) {
    try {
      await chat.join({ name });
    } catch (error) {
      status.textContent = error.message;
    }
  }
}

// Is the end of the list in sight? Then it stays there.
let atEnd = true;
// What is shown, by id: what was sent again can come twice.
const shown = new Set();

live.onstate = (state, seconds) => {
  status.dataset.state = state === "open" || state === "connecting" ? state : "closed";
  status.textContent = {
    connecting: "Connecting…",
    open: "Connected",
    waiting: `Disconnected. Next try in ${seconds} s`,
  }[state] ?? "Closed";
  if (state !== "open") {
    people.textContent = names.textContent = "";
  }
};

chat.onpresence = (members) => {
  people.textContent = members.size === 1 ? "1 person" : `${members.size} people`;
  names.textContent = [...members.values()].map(([info]) => info.name).sort().join(", ");
};

chat.onmessage = (message) => {
  if (shown.has(message.id)) {
    return;
  }
  shown.add(message.id);
  list.append(entry(message));
  // Whoever has scrolled up to read is left in peace.
  if (atEnd || message.name === nameBox.value.trim()) {
    showEnd();
  }
};

// What came meanwhile is not kept any more.
chat.ongap = () => {
  if (list.children.length) {
    const item = document.createElement("li");
    item.className = "gap";
    item.textContent = "Something may be missing here.";
    list.append(item);
  }
};

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

async function say(message) {
  try {
    await chat.publish(message);
  } catch (error) {
    if (error.code === "lost") {
      // It was published, or not: with the same id it is shown once.
      await say(message);
    } else {
      status.textContent = error.message;
      textBox.value ||= message.text;
    }
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const name = nameBox.value.trim();
  const text = textBox.value.trim();
  if (!name || !text) {
    return;
  }
  // Without a connection it waits for the next one.
  say({ id: random().slice(0, 40), name, text });
  textBox.value = "";
  textBox.focus();
});

import { Live } from "flask-ws";

const answer = document.getElementById("answer");
const status = document.getElementById("status");
const { url, channel } = document.body.dataset;

const live = new Live(url);
const room = live.subscribe(channel, { since: "all" });

function show(state, text) {
  status.dataset.state = state;
  status.textContent = text;
}

live.onstate = (state, seconds) => {
  if (state === "connecting") show("connecting", "Connecting…");
  if (state === "open") show("open", "Writing…");
  if (state === "waiting") show("closed", `Disconnected. Next try in ${seconds} s`);
};

room.onmessage = (data) => {
  if (data.done) {
    answer.setAttribute("aria-busy", "false");
    show("done", "Done");
    live.onstate = null;
    live.close();
  } else {
    answer.append(data.text);
  }
};

// An hour is over, or the server was restarted and keeps nothing beside it.
room.ongap = () => {
  answer.textContent = "";
  show("closed", "The answer is not there any more.");
  live.onstate = null;
};

room.onrefused = (error) => show("closed", error.message);

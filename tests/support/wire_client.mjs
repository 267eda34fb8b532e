// A client for the wire format, written from its page alone (docs/wire.md).
//
// node wire_client.mjs URL CHANNEL [INFO]: stays subscribed to the channel, and joined to it where there
// is an info, until its input ends. A line of JSON goes out for all that is told; a line of JSON that comes
// in is sent as a request, without the id.

import { createInterface } from "node:readline";

const [, , url, channel, info] = process.argv;
// Of what the page says, so that tests take less time: a client's own would be 1000 and 30000 milliseconds.
const FIRST_WAIT = 50;
const LONGEST_WAIT = 400;
const LASTING = 500;

const tell = (event, more) => console.log(JSON.stringify({ event, ...more }));

let ids = 0;
let failures = 0;
// "all" at first; then the last position, or "" where the channel has none.
let since = "all";
let ws = null;
const unanswered = new Map();

function send(request) {
  const id = ids++;
  ws.send(JSON.stringify({ ...request, id }));
  return new Promise((resolve, reject) => unanswered.set(id, { resolve, reject }));
}

function valueOf({ base64, data }) {
  return base64 === undefined ? data : { bytes: [...Buffer.from(base64, "base64")] };
}

function keep(position) {
  // Without a position it is not known next time what was missed.
  if (position !== null) since = position;
  else if (since === "all") since = "";
}

const kinds = {
  message(message) {
    tell("message", { data: valueOf(message) });
    keep(message.position);
  },
  gap: () => tell("gap"),
  direct: (message) => tell("direct", { data: valueOf(message) }),
  presence({ event, key, members, infos }) {
    if (["state", "join", "change", "leave"].includes(event)) {
      tell("presence", { what: event, key, members, infos });
    }
  },
};

function take(message) {
  // Not by the id alone: a later version may have one in messages of other kinds.
  const isAnswer = ["subscribed", "unsubscribed", "published", "joined", "left", "pong", "refused"];
  if (isAnswer.includes(message.type)) {
    const { resolve, reject } = unanswered.get(message.id);
    unanswered.delete(message.id);
    // At once: what comes next comes after it.
    if (message.type === "subscribed") keep(message.position);
    if (message.type === "refused") reject(message);
    else resolve(message);
  } else if (Object.hasOwn(kinds, message.type)) kinds[message.type](message);
}

function connect() {
  ws = new WebSocket(url, "flask-ws.v1");
  let lasting;
  ws.onopen = () => {
    tell("open");
    lasting = setTimeout(() => { failures = 0; }, LASTING);
    send({ type: "subscribe", channel, since })
      .then(({ recovered }) => tell("subscribed", { recovered }), ({ code }) => tell("refused", { code }));
    if (info !== undefined) {
      send({ type: "join", channel, info: JSON.parse(info) })
        .then(({ key }) => tell("joined", { key }), ({ code }) => tell("refused", { code }));
    }
  };
  ws.onmessage = ({ data }) => take(JSON.parse(data));
  ws.onclose = ({ code }) => {
    clearTimeout(lasting);
    for (const { reject } of unanswered.values()) reject({ code: "lost" });
    unanswered.clear();
    tell("closed", { code });
    if (code === 1000 || (code >= 4000 && code <= 4499)) return;
    setTimeout(connect, Math.random() * Math.min(FIRST_WAIT * 2 ** failures++, LONGEST_WAIT));
  };
}

connect();
createInterface({ input: process.stdin })
  .on("line", (line) => send(JSON.parse(line))
    .then((answer) => tell("answer", { answer }), ({ code, reason }) => tell("refused", { code, reason })))
  .on("close", () => process.exit());

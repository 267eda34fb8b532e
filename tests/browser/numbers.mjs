// The browser client in Node, with its own WebSocket: a line for each message of a channel,
// and for what else it is told.
const [, , module, url] = process.argv;
const { Live } = await import(module);

const live = new Live(url, { minDelay: 50, maxDelay: 400 });
const room = live.subscribe("numbers", { since: "all" });
room.onmessage = (number) => console.log(number);
room.ongap = () => console.log("gap");
room.onsubscribed = () => console.log("subscribed");
room.onpresence = (members) => console.log("presence", [...members.keys()].sort().join());
if (url.includes("user=")) room.join("node");
live.onmessage = (data) => console.log("direct", data);
process.stdin.on("end", () => process.exit()).resume();

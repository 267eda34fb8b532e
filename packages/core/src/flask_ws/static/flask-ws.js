// The browser client of flask-ws. flask-ws.d.ts says what each thing is for.

const page = globalThis.document;
const ANSWERS = ["subscribed", "unsubscribed", "published", "joined", "left", "pong", "refused"];
const CLOSED = ["closed", "The connection is closed."];
const read = ({ data, base64 }) =>
  base64 === undefined ? data : Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

/** A WebSocket that comes back. */
export class Socket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  CONNECTING = 0;
  OPEN = 1;
  CLOSING = 2;
  CLOSED = 3;

  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;
  onstate = null;
  #url;
  #href = "";
  #protocols;
  #options;
  #socket = null;
  #state = "";
  #attempts = 0;
  #opened = 0;
  #timer;
  #kept = [];
  #binaryType = "blob";
  #end = new AbortController();

  constructor(url, protocols = [], options = {}) {
    super();
    this.#url = url;
    this.#protocols = protocols;
    this.#options = {
      minDelay: 1000,
      maxDelay: 30000,
      openTimeout: 15000,
      keep: 100,
      isFinal: (code) => code === 1000 || (code >= 4000 && code < 4500),
      ...options,
    };
    for (const type of ["open", "message", "error", "close"]) {
      this.addEventListener(type, (event) => this["on" + type]?.(event));
    }
    const on = (target, type, listener) =>
      target?.addEventListener?.(type, listener, { signal: this.#end.signal });
    const hurry = () => {
      if (page && page.visibilityState !== "visible") return;
      if (this.#state === "waiting") this.#connect();
      else if (this.#state === "open") this.#options.probe?.();
    };
    on(globalThis, "online", hurry);
    on(globalThis, "pageshow", hurry);
    on(page, "visibilitychange", hurry);
    on(page, "resume", hurry);
    // A browser may keep the page for the way back; until then it is not there.
    on(globalThis, "pagehide", () => {
      if (this.readyState > 1) return;
      clearTimeout(this.#timer);
      this.#drop();
      this.#set("waiting", Infinity);
    });
    this.#connect();
  }

  get url() {
    return this.#href;
  }
  get protocol() {
    return this.#socket?.protocol ?? "";
  }
  get extensions() {
    return this.#socket?.extensions ?? "";
  }
  get state() {
    return this.#state;
  }
  get readyState() {
    return { open: 1, closing: 2, closed: 3 }[this.#state] ?? 0;
  }
  get bufferedAmount() {
    const sizes = this.#kept.map((data) => new Blob([data]).size);
    return sizes.reduce((sum, size) => sum + size, this.#socket?.bufferedAmount ?? 0);
  }
  get binaryType() {
    return this.#binaryType;
  }
  set binaryType(type) {
    this.#binaryType = type;
    if (this.#socket) this.#socket.binaryType = type;
  }

  send(data) {
    if (this.#state === "open") this.#socket.send(data);
    else if (this.readyState > 1) return;
    else if (this.#kept.length < this.#options.keep) this.#kept.push(data);
    else throw new DOMException("There is no connection.", "InvalidStateError");
  }

  close(code = 1000, reason = "") {
    if (this.readyState > 1) return;
    if (this.#state === "open") {
      this.#socket.close(code, reason);
      this.#set("closing");
    } else {
      this.#drop();
      this.#finish();
      this.dispatchEvent(Object.assign(new Event("close"), { code, reason, wasClean: false }));
    }
  }

  reconnect() {
    if (this.readyState > 1) return;
    this.#drop();
    this.#connect();
  }

  #set(state, seconds) {
    this.#state = state;
    this.onstate?.(state, seconds);
  }

  #connect() {
    clearTimeout(this.#timer);
    const attempt = (this.#timer = setTimeout(() => this.#lose(), this.#options.openTimeout));
    const open = (given) => {
      // Meanwhile it may have been closed, or have begun anew.
      if (this.#timer !== attempt) return;
      const url = new URL(given, page?.baseURI);
      url.protocol = url.protocol.replace("http", "ws");
      this.#href = url.href;
      this.#take(new WebSocket(url, this.#protocols));
    };
    this.#set("connecting");
    if (typeof this.#url !== "function") open(this.#url);
    else {
      Promise.resolve()
        .then(this.#url)
        .then(open)
        .catch(() => this.#timer === attempt && this.#lose());
    }
  }

  #take(socket) {
    this.#socket = socket;
    socket.binaryType = this.#binaryType;
    const on = (type, before) =>
      socket.addEventListener(type, (event) => {
        if (this.#socket !== socket) return;
        before?.(event);
        this.dispatchEvent(new event.constructor(type, event));
        if (type === "open") while (this.#kept.length) this.send(this.#kept.shift());
      });
    on("open", () => {
      clearTimeout(this.#timer);
      this.#opened = performance.now();
      this.#set("open");
    });
    on("message");
    on("error");
    on("close", (event) => this.#lose(event.code));
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #lose(code) {
    this.#drop();
    if (this.#state === "closing" || this.#options.isFinal(code)) return this.#finish();
    const { minDelay, maxDelay } = this.#options;
    // A server that closes what it has just opened is not asked again and again.
    if (this.#opened && performance.now() - this.#opened > minDelay * 5) this.#attempts = 0;
    this.#opened = 0;
    const most = Math.min(maxDelay, minDelay * 2 ** this.#attempts++);
    const due = performance.now() + most * (0.2 + 0.8 * Math.random());
    const wait = () => {
      const left = due - performance.now();
      if (left <= 0) return this.#connect();
      this.#timer = setTimeout(wait, Math.min(left, left % 1000 || 1000));
      this.#set("waiting", Math.ceil(left / 1000));
    };
    wait();
  }

  #finish() {
    clearTimeout(this.#timer);
    this.#kept = [];
    this.#end.abort();
    this.#set("closed");
  }
}

/** Why something was refused. */
export class Refused extends Error {
  name = "Refused";

  constructor(code, reason) {
    super(reason);
    this.code = code;
  }
}

class Room {
  onmessage = null;
  ongap = null;
  onsubscribed = null;
  onrefused = null;
  onpresence = null;
  position = null;
  key = null;
  members = new Map();
  #live;

  constructor(live, channel) {
    this.#live = live;
    this.channel = channel;
  }

  publish(data) {
    return this.#live.publish(this.channel, data);
  }

  join(info) {
    return this.#live.join(this, info);
  }

  leave() {
    this.#live.leave(this);
  }

  unsubscribe() {
    this.#live.unsubscribe(this);
  }
}

/** Many channels on one connection, which comes back and goes on where it was. */
export class Live {
  onstate = null;
  onmessage = null;
  #socket;
  #keep;
  #rooms = new Map();
  // What was asked and not answered, by id; and what waits for a connection.
  #asked = new Map();
  #waiting = [];
  #id = 0;
  #doubt;

  constructor(url, { keep = 100, probeTimeout = 5000, ...options } = {}) {
    this.#keep = keep;
    const probe = () => {
      this.#doubt ??= setTimeout(() => this.#socket.reconnect(), probeTimeout);
      this.#ask({ type: "ping" });
    };
    const socket = new Socket(url, "flask-ws.v1", { ...options, probe });
    this.#socket = socket;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onstate = (state, seconds) => {
      if (state === "open") this.#begin();
      else this.#lose(state);
      this.onstate?.(state, seconds);
    };
  }

  get state() {
    return this.#socket.state;
  }

  subscribe(channel, { since } = {}) {
    if (this.#rooms.has(channel)) throw new Error(`${channel} is subscribed already.`);
    if (this.state === "closed") throw new Error("The connection is closed.");
    const room = new Room(this, channel);
    this.#rooms.set(channel, { room, since });
    if (this.state === "open") this.#subscribe(channel);
    return room;
  }

  unsubscribe(room) {
    const { channel } = room;
    if (this.#rooms.get(channel)?.room !== room) return;
    this.leave(room);
    this.#rooms.delete(channel);
    if (this.state === "open") this.#ask({ type: "unsubscribe", channel });
  }

  join(room, info) {
    return new Promise((resolve, reject) => {
      const { channel } = room;
      const entry = this.#rooms.get(channel);
      if (entry?.room !== room || this.state === "closed") return reject(new Refused(...CLOSED));
      const before = entry.join;
      const done = ({ key }) => resolve((room.key = key));
      const refused = (...why) => {
        if (entry.join === join) entry.join = before;
        reject(new Refused(...why));
      };
      // It is asked for on each connection.
      const join = (entry.join = [{ type: "join", channel, info }, done, refused]);
      if (this.state === "open") this.#ask(...join);
    });
  }

  leave(room) {
    const { channel } = room;
    const entry = this.#rooms.get(channel);
    if (entry?.room !== room || !entry.join) return;
    const [, , refused] = entry.join;
    entry.join = undefined;
    room.members.clear();
    refused("left", "The channel was left.");
    if (this.state === "open") this.#ask({ type: "leave", channel });
  }

  publish(channel, data) {
    return new Promise((resolve, reject) => {
      const refuse = (code, reason) => reject(new Refused(code, reason));
      const request = { type: "publish", channel, data: JSON.parse(JSON.stringify(data ?? null)) };
      const entry = [request, ({ position }) => resolve(position), refuse];
      if (this.state === "open") this.#ask(...entry);
      else if (this.state === "closed") refuse(...CLOSED);
      else if (this.#waiting.length < this.#keep) this.#waiting.push(entry);
      else refuse("away", "There is no connection, and too much waits for one.");
    });
  }

  close() {
    this.#socket.close();
  }

  #ask(request, done, refused) {
    const id = ++this.#id;
    this.#asked.set(id, { request, done, refused });
    this.#socket.send(JSON.stringify({ id, ...request }));
  }

  #subscribe(channel) {
    const entry = this.#rooms.get(channel);
    const { room } = entry;
    this.#ask(
      { type: "subscribe", channel, since: room.position ?? entry.since },
      ({ position, recovered }) => {
        if (this.#rooms.get(channel) !== entry) return;
        room.position = position ?? room.position;
        // Without a position it is not known next time what was missed: no text is none.
        entry.since = "";
        room.onsubscribed?.(recovered);
      },
      (code, reason) => {
        if (this.#rooms.get(channel) !== entry) return;
        this.#rooms.delete(channel);
        room.onrefused?.(new Refused(code, reason));
      },
    );
  }

  #begin() {
    for (const [channel, { join }] of this.#rooms) {
      this.#subscribe(channel);
      if (join) this.#ask(...join);
    }
    for (const entry of this.#waiting.splice(0)) this.#ask(...entry);
  }

  #lose(state) {
    clearTimeout(this.#doubt);
    this.#doubt = undefined;
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    for (const { request, refused } of asked) {
      const isAskedAgain = this.#rooms.get(request.channel)?.join?.[0] === request;
      if (request.type === "publish" || (request.type === "join" && !isAskedAgain)) {
        refused("lost", "The connection was lost before the answer.");
      }
    }
    if (state === "closed") {
      const joins = [...this.#rooms.values()].flatMap(({ join }) => (join ? [join] : []));
      for (const [, , refused] of this.#waiting.splice(0).concat(joins)) refused(...CLOSED);
    }
  }

  #receive(text) {
    clearTimeout(this.#doubt);
    this.#doubt = undefined;
    const message = JSON.parse(text);
    const { type, id, channel, position } = message;
    if (type === "message" || type === "gap" || type === "presence") {
      const room = this.#rooms.get(channel)?.room;
      const end = type === "presence" ? "leave" : "unsubscribe";
      const leaves = ({ request }) => request.type === end && request.channel === channel;
      // What comes for one that has been left is not for the next.
      if (!room || [...this.#asked.values()].some(leaves)) return;
      if (type === "gap") return room.ongap?.();
      if (type === "presence") {
        const { event, key, infos, members } = message;
        if (event === "state") room.members = new Map(Object.entries(members));
        else if (event === "leave") room.members.delete(key);
        else room.members.set(key, infos);
        return room.onpresence?.(room.members, message);
      }
      room.position = position ?? room.position;
      room.onmessage?.(read(message), position);
      return;
    }
    if (type === "direct") return this.onmessage?.(read(message));
    // Later versions have others, also with ids.
    if (!ANSWERS.includes(type)) return;
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (type === "refused") asked?.refused?.(message.code, message.reason);
    else asked?.done?.(message);
  }
}

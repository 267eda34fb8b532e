/** The browser client of flask-ws: an ES module without dependencies. */

/**
 * - `"connecting"`: a connection is being made;
 * - `"open"`: there is one;
 * - `"waiting"`: it was lost, and another is made later;
 * - `"closing"`, `"closed"`: none is made any more.
 */
export type State = "connecting" | "open" | "waiting" | "closing" | "closed";

export interface Options {
  /** Milliseconds before the second try, at most; each further try may wait twice as long. 1000. */
  minDelay?: number;
  /** Milliseconds before any try, at most. 30000. */
  maxDelay?: number;
  /** Milliseconds that the making of a connection may take. 15000. */
  openTimeout?: number;
  /** How many messages are kept while there is no connection; more are refused. 100. */
  keep?: number;
  /** Tells whether nothing is to come back after a close code: by default 1000 and 4000 to 4499. */
  isFinal?: (code: number | undefined) => boolean;
}

export interface LiveOptions extends Options {
  /**
   * Milliseconds to wait for an answer when the page is shown again, or online, before the
   * connection counts as dead. 5000.
   */
  probeTimeout?: number;
}

export interface SocketOptions extends Options {
  /**
   * Called when the page is shown again, or online, while there is a connection that may be dead.
   * It may send something, and call `reconnect()` if there is no answer.
   */
  probe?: () => void;
}

/** Where to connect to: also relative, and with `http:`. A function is asked at each try. */
export type Address = string | URL | (() => string | URL | Promise<string | URL>);

/**
 * A WebSocket that comes back: when it is lost, another is made, later each time, at a random
 * moment, and at once when the page is shown again or online.
 *
 * It has the interface of `WebSocket`. Its events come for each connection anew, and `readyState`
 * is `CONNECTING` while there is none.
 */
export class Socket extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  constructor(url: Address, protocols?: string | string[], options?: SocketOptions);

  readonly url: string;
  readonly protocol: string;
  readonly extensions: string;
  readonly readyState: 0 | 1 | 2 | 3;
  /** With what is kept while there is no connection. */
  readonly bufferedAmount: number;
  binaryType: BinaryType;
  readonly state: State;

  onopen: ((event: Event) => unknown) | null;
  onmessage: ((event: MessageEvent) => unknown) | null;
  onerror: ((event: Event) => unknown) | null;
  /** Also for a connection after which another is made: `readyState` tells. */
  onclose: ((event: CloseEvent) => unknown) | null;
  /** While waiting it is called each second, with the seconds to the next try. */
  onstate: ((state: State, secondsToNextTry?: number) => unknown) | null;

  /**
   * Send a message; while there is no connection it is kept.
   * @throws {DOMException} InvalidStateError: as many as may be kept are.
   */
  send(data: string | ArrayBufferLike | Blob | ArrayBufferView): void;
  /** Close it, for good. */
  close(code?: number, reason?: string): void;
  /** Give the connection up, and make another now. */
  reconnect(): void;

  addEventListener<K extends keyof WebSocketEventMap>(
    type: K,
    listener: (this: Socket, event: WebSocketEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/**
 * Why something was refused. `code` is the server's (`"forbidden"`, `"channel"`, `"limit"`,
 * `"data"`, `"subscribed"`, `"away"`, `"unsupported"`), or:
 *
 * - `"left"`: the channel was left meanwhile;
 * - `"lost"`: the connection was lost before the answer; it may have been published, or not;
 * - `"closed"`: the connection is closed;
 * - `"away"`: there is no connection, and as much as may be kept waits for one.
 */
export class Refused extends Error {
  readonly code: string;
}

/** What has changed in who is there; `"state"` comes first, and again after a reconnection. */
export interface Change {
  readonly event: "state" | "join" | "change" | "leave";
  /** Whom it is about, unless about all. */
  readonly key?: string;
  /** What is known now of that one. */
  readonly infos?: readonly any[];
}

/** A channel that is subscribed; it is subscribed again when the connection comes back. */
export interface Room<T = any> {
  readonly channel: string;
  /** The place up to which messages have come; for a later `since`. */
  readonly position: string | null;
  /** A message: JSON as it was published, text, or bytes. */
  onmessage: ((data: T, position: string | null) => unknown) | null;
  /** Messages are missing here: load anew what is shown. */
  ongap: (() => unknown) | null;
  /** It is subscribed, and what was missed has come, each time; `recovered` is false after a gap. */
  onsubscribed: ((recovered: boolean) => unknown) | null;
  /** It may not be subscribed, and is not any more. */
  onrefused: ((error: Refused) => unknown) | null;
  /** Who this page is in the channel, once it has joined. */
  readonly key: string | null;
  /** Who is there, once it has joined: what is known of each, for each of its connections. */
  readonly members: ReadonlyMap<string, readonly any[]>;
  /** Somebody has come, left or changed; `members` has been changed accordingly. */
  onpresence: ((members: ReadonlyMap<string, readonly any[]>, change: Change) => unknown) | null;
  /** As `live.publish()`. */
  publish(data: unknown): Promise<string | null>;
  /**
   * Be there, as others see it, and see who is; again when the connection comes back.
   * @param info what the server may tell others, if it wants to; once more to change it.
   * @returns the key.
   * @throws {Refused} it is refused.
   */
  join(info?: unknown): Promise<string>;
  /** Be there no more, and do not see who is. */
  leave(): void;
  /** Nothing comes any more. */
  unsubscribe(): void;
}

/** Many channels on one connection, which comes back and goes on where it was. */
export class Live {
  constructor(url: Address, options?: LiveOptions);

  readonly state: State;
  /** While waiting it is called each second, with the seconds to the next try. */
  onstate: ((state: State, secondsToNextTry?: number) => unknown) | null;
  /** A message to the page's user, as from `sock.send_to()`: JSON, text, or bytes. */
  onmessage: ((data: any) => unknown) | null;

  /**
   * Subscribe to a channel; set the handlers of what it returns at once.
   * @param options.since the position up to which the page has the messages, or `"all"`.
   * @throws {Error} it is subscribed already, or the connection is closed.
   */
  subscribe<T = any>(channel: string, options?: { since?: string }): Room<T>;
  unsubscribe(room: Room): void;
  join(room: Room, info?: unknown): Promise<string>;
  leave(room: Room): void;
  /**
   * Publish a value as JSON; while there is no connection it is kept.
   * @returns the position of the message, if its channel has a history.
   * @throws {Refused} it is refused, or lost.
   */
  publish(channel: string, data: unknown): Promise<string | null>;
  /** Close the connection, for good. */
  close(): void;
}

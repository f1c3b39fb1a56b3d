import { binaryRoutes } from "./types.js";
import type { ErrorCode, Operations, Problem } from "./types.js";

/** A route of the API, such as "POST /api/chat/messages". */
export type Route = keyof Operations;

/** A route that can answer with a stream of events. */
export type StreamRoute = { [R in Route]: Operations[R]["events"] extends never ? never : R }[Route];

/** What a route reads: path, query, headers, body. */
export type Input<R extends Route> = Operations[R]["input"];

/** What a route answers when it does not refuse. */
export type Answer<R extends Route> = Operations[R]["answer"];

/** An event of a reply. */
export type ReplyEvent = Operations["POST /api/chat/stream"]["events"];

/** An event with its position, from which a stream can be followed. */
export interface Positioned<E> {
  id: number | undefined;
  event: E;
}

export interface Options {
  /** Address of Parley, such as https://chat.example.com. */
  baseUrl: string;
  /** Bearer token or API key, or a function that returns one. Without: the session cookie is sent. */
  token?: string | (() => string | Promise<string>);
  /** Used instead of the global fetch. */
  fetch?: typeof fetch;
  /** Attempts to reconnect without a new event before a stream fails; 5. */
  reconnects?: number;
  /** Milliseconds before the first attempt to reconnect; each later one waits twice as long. 250. */
  reconnectDelay?: number;
}

/** A refusal of the API. */
export class ParleyError extends Error {
  override readonly name = "ParleyError";
  /** Status code of HTTP. */
  readonly status: number;
  readonly code: ErrorCode | "UNKNOWN";
  /** The whole answer; undefined if it was no problem of Parley's, as from a proxy. */
  readonly problem: Problem | undefined;
  /** Seconds until trying again makes sense. */
  readonly retryAfter: number | undefined;

  constructor(status: number, message: string, code: ErrorCode | "UNKNOWN", problem?: Problem, retryAfter?: number) {
    super(message);
    this.status = status;
    this.code = code;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }

  /** Makes the error of an answer that refuses. */
  static async of(response: Response): Promise<ParleyError> {
    const text = await response.text().catch(() => "");
    const seconds = Number(response.headers.get("Retry-After") ?? NaN);
    const retryAfter = Number.isFinite(seconds) ? seconds : undefined;
    const plain = response.headers.get("X-Error-Code") as ErrorCode | null; // of the routes of the AI SDK
    if (plain) return new ParleyError(response.status, text, plain, undefined, retryAfter);
    try {
      const problem = JSON.parse(text) as Problem;
      if (typeof problem.error.code === "string") {
        return new ParleyError(response.status, problem.detail, problem.error.code, problem, retryAfter);
      }
    } catch {
      // no problem of Parley's
    }
    return new ParleyError(response.status, `HTTP ${response.status}`, "UNKNOWN", undefined, retryAfter);
  }
}

type Arguments<R extends Route> = Record<never, never> extends Input<R>
  ? [input?: Input<R>, signal?: AbortSignal]
  : [input: Input<R>, signal?: AbortSignal];

interface AnyInput {
  path?: Record<string, string>;
  query?: Record<string, unknown>;
  headers?: Record<string, unknown>;
  body?: unknown;
}

/** A client of Parley. */
export class Parley {
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Calls a route and returns what it answers. Throws a ParleyError if it refuses. */
  async call<R extends Route>(route: R, ...[input, signal]: Arguments<R>): Promise<Answer<R>> {
    const response = await this.#send(route, (input ?? {}) as AnyInput, signal);
    if (response.status === 204) return undefined as Answer<R>;
    if (binaryRoutes.has(route)) return (await response.blob()) as Answer<R>;
    const json = (response.headers.get("Content-Type") ?? "").includes("json");
    return (json ? await response.json() : await response.text()) as Answer<R>;
  }

  /**
   * Calls a route and yields the events that it answers with. It does not reconnect:
   * send and followRun do.
   */
  async *stream<R extends StreamRoute>(route: R, ...[input, signal]: Arguments<R>): AsyncGenerator<Positioned<Operations[R]["events"]>, void, undefined> {
    const events = await this.#open<Operations[R]["events"]>(route, (input ?? {}) as AnyInput, signal);
    if (events) yield* events;
  }

  /**
   * Sends a message and yields the reply while it is made. When the connection breaks,
   * the reply is followed from the last event, so that no part is lost or repeated.
   * Ending the iteration does not stop the reply: call "POST /api/chat/messages/{id}/stop".
   */
  send(body: NonNullable<Input<"POST /api/chat/stream">["body"]>, signal?: AbortSignal): AsyncGenerator<ReplyEvent, void, undefined> {
    // With a key, a request that is sent again joins the first one.
    const headers = { "Idempotency-Key": crypto.randomUUID() };
    return this.#follow({ body, headers }, undefined, undefined, signal);
  }

  /** Yields the events of a reply, from its start or behind the event with the id after. It reconnects as send does. */
  followRun(runId: string, after?: number, signal?: AbortSignal): AsyncGenerator<ReplyEvent, void, undefined> {
    return this.#follow(undefined, runId, after, signal);
  }

  async *#follow(message: AnyInput | undefined, runId: string | undefined, after: number | undefined, signal?: AbortSignal): AsyncGenerator<ReplyEvent, void, undefined> {
    const most = this.#options.reconnects ?? 5;
    for (let failures = 0; ; failures++) {
      let wait = (this.#options.reconnectDelay ?? 250) * 2 ** failures;
      try {
        const events = runId === undefined
          ? await this.#open<ReplyEvent>("POST /api/chat/stream", message ?? {}, signal)
          : await this.#open<ReplyEvent>("GET /api/chat/messages/{id}/stream", { path: { id: runId }, query: { after } }, signal);
        if (!events) return; // nothing comes after the last event
        for await (const { id, event } of events) {
          if (event.type === "reconnect") break; // the instance is shutting down
          failures = 0;
          if (event.type === "start") runId = event.runId;
          if (id !== undefined) after = id;
          yield event;
          if (event.type === "end" || event.type === "error") return;
        }
        if (failures >= most) throw new Error("The stream ended before the reply");
      } catch (err) {
        const refused = err instanceof ParleyError && (runId === undefined || (err.status < 500 && err.status !== 429));
        if (signal?.aborted || refused || failures >= most) throw err;
        if (err instanceof ParleyError) wait = Math.max(wait, 1000 * (err.retryAfter ?? 0));
      }
      await pause(wait, signal);
    }
  }

  /** Calls a route for its events; undefined if it has none to send. */
  async #open<E>(route: Route, input: AnyInput, signal?: AbortSignal): Promise<AsyncGenerator<Positioned<E>, void, undefined> | undefined> {
    const response = await this.#send(route, { ...input, headers: { ...input.headers, Accept: "text/event-stream" } }, signal);
    return response.status === 204 || !response.body ? undefined : readEvents<E>(response.body);
  }

  async #send(route: Route, input: AnyInput, signal?: AbortSignal): Promise<Response> {
    const [method, pattern] = route.split(" ") as [string, string];
    const path = pattern.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(input.path?.[name] ?? ""));
    const url = new URL(path, this.#options.baseUrl);
    for (const [name, value] of Object.entries(input.query ?? {})) {
      if (value !== undefined && value !== null) url.searchParams.set(name, String(value));
    }
    const headers = new Headers();
    for (const [name, value] of Object.entries(input.headers ?? {})) {
      if (value !== undefined && value !== null) headers.set(name, String(value));
    }
    const { token } = this.#options;
    if (token !== undefined) headers.set("Authorization", `Bearer ${typeof token === "function" ? await token() : token}`);
    const init: RequestInit = { method, headers, credentials: token === undefined ? "include" : "omit" };
    if (signal) init.signal = signal;
    if (input.body instanceof FormData || input.body instanceof Blob) {
      init.body = input.body;
    } else if (input.body !== undefined) {
      headers.set("Content-Type", "application/json");
      init.body = JSON.stringify(input.body);
    }
    const response = await (this.#options.fetch ?? fetch)(url, init);
    if (!response.ok) throw await ParleyError.of(response);
    return response;
  }
}

/** Decodes server-sent events. A stream that breaks off in an event does not yield it. */
async function* readEvents<E>(body: ReadableStream<Uint8Array>): AsyncGenerator<Positioned<E>, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffered = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      buffered += decoder.decode(value, { stream: true });
      for (let end = buffered.indexOf("\n\n"); end >= 0; end = buffered.indexOf("\n\n")) {
        const block = buffered.slice(0, end);
        buffered = buffered.slice(end + 2);
        let id: number | undefined;
        let data = "";
        for (const line of block.split("\n")) {
          if (line.startsWith("id: ")) id = Number(line.slice(4));
          if (line.startsWith("data: ")) data += line.slice(6);
        }
        if (data !== "" && data !== "[DONE]") yield { id, event: JSON.parse(data) as E };
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined); // the reply goes on without this reader
  }
}

/** Waits, or rejects when the signal aborts. */
function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason ?? new Error("aborted"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    if (signal?.aborted) abort();
    else signal?.addEventListener("abort", abort, { once: true });
  });
}

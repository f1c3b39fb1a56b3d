export { Parley, ParleyError } from "./client.js";
export type { Answer, Input, Options, Positioned, ReplyEvent, Route, StreamRoute } from "./client.js";
export type * from "./types.js";

// Another device of the user: it reads a conversation and sends a message in it,
// with the TypeScript client. It prints what it has read and the reply.
import { Parley } from "../../../../adapters/httpapi/client-ts/src/index.js";

const [baseUrl, token, conversationId, content] = process.argv.slice(2);
const parley = new Parley({ baseUrl, token });
const { messages } = await parley.call("GET /api/chat/messages", { query: { conversationId } });
let reply = "";
for await (const event of parley.send({ content, conversationId })) {
  if (event.type === "chunk") reply += event.content;
  if (event.type === "error") throw new Error(`${event.code}: ${event.error}`);
}
console.log(JSON.stringify({ read: messages.map((m) => m.content), reply }));

// Sends a message, prints the reply while it is made, and reads the history. Run it with
//   PARLEY_URL=http://127.0.0.1:8080 PARLEY_TOKEN=$(parley token --user me) node dist/example/example.js "What is a monad?"
import { Parley, ParleyError } from "../src/index.js";

declare const process: { argv: string[]; env: Record<string, string | undefined>; stdout: { write(text: string): void }; exitCode: number };

const parley = new Parley({ baseUrl: process.env["PARLEY_URL"] ?? "http://127.0.0.1:8080", token: process.env["PARLEY_TOKEN"] ?? "" });

try {
  const conversation = await parley.call("POST /api/chat/conversations", { body: { title: "An example" } });
  let text = "";
  for await (const event of parley.send({ content: process.argv[2] ?? "Hello!", conversationId: conversation.id })) {
    switch (event.type) {
      case "chunk":
        text += event.content;
        process.stdout.write(event.content);
        break;
      case "end":
        process.stdout.write(`\n[${event.state}]\n`);
        if (event.assistantMessage?.content !== text) throw new Error("the chunks are not the message");
        break;
      case "error":
        throw new Error(`${event.code}: ${event.error}`);
    }
  }
  const { messages } = await parley.call("GET /api/chat/messages", { query: { conversationId: conversation.id } });
  process.stdout.write(`${messages.map((m) => m.role).join(", ")}\n`);

  const reply = messages.at(-1)!;
  let again = "";
  for await (const event of parley.followRun(reply.id)) {
    if (event.type === "chunk") again += event.content;
  }
  if (again !== text) throw new Error("the reply reads otherwise when it is followed again");

  await parley.call("DELETE /api/chat/conversations/{id}", { path: { id: conversation.id } });
  await parley.call("GET /api/chat/conversations/{id}", { path: { id: conversation.id } }).then(
    () => { throw new Error("it is still there"); },
    (err: unknown) => {
      if (!(err instanceof ParleyError) || err.code !== "NOT_FOUND") throw err;
      process.stdout.write(`${err.status} ${err.code}: ${err.message}\n`);
    },
  );
} catch (err) {
  process.stdout.write(`${String(err)}\n`);
  process.exitCode = 1;
}

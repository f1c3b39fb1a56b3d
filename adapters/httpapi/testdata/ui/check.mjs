// Lets the Vercel AI SDK itself talk to a Parley that it starts, with the demo
// provider and an embedded database:
//   node check.mjs path/to/parley
// with three of its major versions, the older of which refuse what they do not
// know. Exits with 1 at the first thing that is not as it should be.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const parley = process.argv[2]
const data = mkdtempSync(join(tmpdir(), 'parley-ui-'))
const env = { PATH: process.env.PATH, DATA_DIR: data, ADDR: '127.0.0.1:0', ADMIN_ADDR: '127.0.0.1:0', LOG_LEVEL: 'error' }
const server = spawn(parley, ['serve'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
process.on('exit', () => { server.kill(); rmSync(data, { recursive: true, force: true }) })
const base = await new Promise((resolve, reject) => {
  server.on('exit', (code) => reject(new Error(`parley ended with ${code}`)))
  server.stdout.setEncoding('utf8').on('data', (said) => {
    const found = said.match(/listens on (http:\S+\d)/)
    if (found) resolve(found[1])
  })
})
const token = execFileSync(parley, ['token', '--user', 'alice'], { env, encoding: 'utf8' }).trim()
const headers = { authorization: `Bearer ${token}` }

// State is what useChat keeps, without React.
class State {
  status = 'ready'
  error = undefined
  messages = []
  pushMessage = (m) => { this.messages = [...this.messages, m] }
  popMessage = () => { this.messages = this.messages.slice(0, -1) }
  replaceMessage = (i, m) => { this.messages = this.messages.map((old, at) => (at === i ? m : old)) }
  snapshot = (v) => structuredClone(v)
}

const textOf = (m) => m.parts.filter((p) => p.type === 'text').map((p) => p.text).join('')

async function json(method, path, body) {
  const res = await fetch(base + path, {
    method, headers: { ...headers, 'content-type': 'application/json' }, body: body && JSON.stringify(body),
  })
  assert.ok(res.ok, `${method} ${path}: ${res.status}`)
  return res.json()
}

async function stored(chat) {
  const { messages } = await json('GET', `/api/chat/messages?conversationId=${chat}&leaf=current`)
  return messages
}

async function until(what, is) {
  for (const end = Date.now() + 15_000; Date.now() < end; await new Promise((r) => setTimeout(r, 10))) {
    if (await is()) return
  }
  assert.fail(`never: ${what}`)
}

// What is sent: all of the history, as the SDK does by itself, or as docs/api.md
// has it.
const sending = {
  all: {},
  last: {
    prepareSendMessagesRequest: ({ id, messages, trigger, messageId, body }) =>
      ({ body: { ...body, id, trigger, messageId, message: trigger === 'submit-message' ? messages.at(-1) : undefined } }),
  },
}

for (const [name, how] of ['ai5', 'ai6', 'ai7'].flatMap((n) => Object.keys(sending).map((how) => [n, how]))) {
  const { AbstractChat, DefaultChatTransport } = await import(name)
  class Chat extends AbstractChat {
    constructor(id, messages = []) {
      const state = new State()
      state.messages = messages
      super({ id, state, transport: new DefaultChatTransport({ api: `${base}/api/chat/ui`, headers, ...sending[how] }) })
      this.kept = state
    }
    get said() { return this.kept.messages.map(textOf) }
  }
  const id = `check-${name}-${how}`
  const chat = new Chat(id)
  const well = (what) => assert.equal(chat.status, 'ready', `${name}: ${what}: ${chat.error}`)

  await chat.sendMessage({ text: '!echo one' })
  well('send')
  assert.deepEqual(chat.said, ['!echo one', 'one'])
  assert.ok(chat.lastMessage.parts.every((p) => p.type !== 'text' || p.state === 'done'))
  assert.equal(chat.lastMessage.metadata.finishReason, 'stop')
  const kept = await stored(id)
  assert.deepEqual(kept.map((m) => m.id), chat.messages.map((m) => m.id), 'ids are the same on both sides')

  await chat.sendMessage({ text: '!echo two' })
  well('send again')
  const second = chat.lastMessage.id
  await chat.regenerate()
  well('regenerate')
  assert.notEqual(chat.lastMessage.id, second)
  assert.deepEqual(chat.said, ['!echo one', 'one', '!echo two', 'two'])

  await chat.sendMessage({ text: '!echo zwei', messageId: chat.messages[2].id })
  well('edit')
  assert.deepEqual(chat.said, ['!echo one', 'one', '!echo zwei', 'zwei'])
  await chat.regenerate({ messageId: chat.messages[3].id })
  well('regenerate what was edited')
  assert.deepEqual((await stored(id)).map((m) => m.content), chat.said, 'history is what the page shows')

  await chat.sendMessage({ text: '!fail' })
  assert.equal(chat.status, 'error')
  assert.match(chat.error.message, /your message is kept/)
  chat.clearError()
  await chat.sendMessage({ text: '!echo after a failure' })
  well('send after a failure')
  assert.equal(chat.said.at(-1), 'after a failure')

  // A reload in the middle: another page follows the same reply from its start.
  const running = chat.sendMessage({ text: '!long 60' })
  await until('the reply has begun', () => chat.said.at(-1).split(' ').length > 5 && chat.status === 'streaming')
  const page = new Chat(id, (await stored(id)).map((m) => ({ id: m.id, role: m.role, parts: [{ type: 'text', text: m.content }] })))
  await page.resumeStream()
  await running
  assert.equal(page.status, 'ready', `${name}: resume: ${page.error}`)
  assert.equal(page.said.at(-1), chat.said.at(-1))
  assert.equal(page.lastMessage.id, chat.lastMessage.id)
  assert.equal((await stored(id)).at(-1).content, page.said.at(-1))
  await page.resumeStream() // nothing is made any more
  assert.equal(page.status, 'ready')
  await new Chat('never-heard-of').resumeStream()

  // Stop, for good.
  const stopping = chat.sendMessage({ text: '!slow 30s' })
  await until('the reply has begun', () => chat.status === 'streaming')
  assert.equal((await json('POST', `/api/chat/ui/${id}/stop`)).runs.length, 1)
  await stopping
  well('stop')

  // The SDK's own stop hangs up, and the next message goes through.
  const left = chat.sendMessage({ text: '!slow 30s' })
  await until('the reply has begun', () => chat.status === 'streaming')
  await chat.stop()
  await left
  await chat.sendMessage({ text: '!echo on' })
  well('send after hanging up')
  assert.equal(chat.said.at(-1), 'on')
  console.log(`${name}, sending ${how}: as it should be`)
}
process.exit(0)

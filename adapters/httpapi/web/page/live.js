// Which replies are being written, for all tabs: one of them follows the user's
// live runs and tells the others, since a browser keeps few connections to one
// server.
import { open, events, outside } from "./api.js"
import { sleep } from "./dom.js"

class Live extends EventTarget {
  constructor() {
    super()
    this.runs = new Map() // by id
    this.connected = false
    this.channel = 'BroadcastChannel' in window ? new BroadcastChannel('parley') : null
    this.channel?.addEventListener('message', (e) => this.receive(e.data))
  }

  start() {
    this.channel?.postMessage({ type: 'ask' })
    const follow = () => this.follow()
    if (navigator.locks) navigator.locks.request('parley.live', follow)
    else follow()
  }

  // tell tells the other tabs that something changed: {type: 'conversation', id}
  // or {type: 'conversations'}.
  tell(message) { this.channel?.postMessage(message) }

  receive(message) {
    if (message.type === 'ask' && this.connected) this.channel.postMessage({ type: 'runs', runs: [...this.runs.values()], snapshot: true })
    else if (message.type === 'runs') this.take(message.runs, message.snapshot)
    else this.dispatchEvent(new CustomEvent(message.type, { detail: message }))
  }

  take(runs, snapshot) {
    if (snapshot) this.runs.clear()
    for (const run of runs) {
      run.conversationId ??= outside
      if (['queued', 'running'].includes(run.state)) this.runs.set(run.runId, run)
      else this.runs.delete(run.runId)
    }
    this.dispatchEvent(new CustomEvent('runs', { detail: { runs, snapshot } }))
  }

  // of returns the newest live run of a conversation.
  of(conversation) {
    return [...this.runs.values()].filter((r) => r.conversationId === conversation).sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1))[0]
  }

  async follow() {
    for (let wait = 500; ; wait = Math.min(wait * 2, 15_000)) {
      try {
        const response = await open('GET', '/api/chat/live')
        for await (const { data } of events(response)) {
          if (data.type === 'error') break
          if (data.type === 'reconnect') break
          wait = 500
          this.connected = true
          this.take(data.runs, data.type === 'snapshot')
          this.channel?.postMessage({ type: 'runs', runs: data.runs, snapshot: data.type === 'snapshot' })
        }
      } catch (problem) {
        if (problem.status === 401) {
          this.dispatchEvent(new CustomEvent('signed-out'))
          await new Promise((resolve) => this.addEventListener('signed-in', resolve, { once: true }))
        }
        wait = Math.max(wait, (problem.retryAfter ?? 0) * 1000)
      }
      this.connected = false
      await sleep(wait)
    }
  }
}

export const live = new Live()

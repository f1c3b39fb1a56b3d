// What the pages have in common: the history of a chat, how messages are shown,
// and what the tests read and call.
import { createRoot } from 'react-dom/client'

// chatID is the chat that the address names, if any.
export const chatID = new URLSearchParams(location.search).get('chat')

const problems = []
addEventListener('error', (e) => problems.push(String(e.error ?? e.message)))
addEventListener('unhandledrejection', (e) => problems.push(String(e.reason)))

// loadHistory reads all messages of a chat, the newest page first.
async function loadHistory(id) {
  let messages = []
  for (let before = ''; ;) {
    const res = await fetch(`/api/chat/${encodeURIComponent(id)}/messages${before && `?before=${before}`}`)
    if (!res.ok) throw new Error(`history: ${res.status} ${await res.text()}`)
    const page = await res.json()
    messages = [...page.messages, ...messages]
    if (!page.pagination?.hasMore) return messages
    before = encodeURIComponent(page.pagination.before)
  }
}

// mount draws a page: New for a new chat, Old with the history of the chat that
// the address names.
export async function mount(New, Old) {
  const root = createRoot(document.getElementById('root'))
  root.render(chatID ? <Old id={chatID} messages={await loadHistory(chatID)} /> : <New />)
}

export function Messages({ messages }) {
  return messages.map((m) => (
    <div key={m.id} className={m.role}>
      {m.parts.map((p, i) => {
        if (p.type === 'text') return <span key={i}>{p.text}</span>
        if (p.type === 'file') return <img key={i} src={p.url} alt={p.filename} />
      })}
    </div>
  ))
}

// publish hands the state of a chat of useChat, and what a user can do with it,
// to the tests.
export function publish(chat, acts) {
  window.acts = acts
  window.state = () => ({
    id: chat.id,
    status: chat.status,
    error: chat.error?.message ?? '',
    messages: chat.messages,
    images: [...document.images].filter((i) => i.complete && i.naturalWidth > 0).length,
    problems,
    // The SDK asks for a reply to follow while its status is ready already.
    asked: !chatID || performance.getEntriesByType('resource').some((e) => e.name.endsWith('/stream')),
  })
}

// stopReply ends the live reply of a chat; what the page reads of it then ends too.
export async function stopReply(id) {
  const res = await fetch(`/api/chat/${encodeURIComponent(id)}/stop`, { method: 'POST' })
  if (!res.ok) throw new Error(`stop: ${res.status}`)
}

// image is a picture of one pixel, as a file that a user has chosen.
export function image() {
  const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
  return new File([Uint8Array.from(atob(png), (c) => c.charCodeAt(0))], 'dot.png', { type: 'image/png' })
}

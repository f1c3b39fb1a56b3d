// Trouble in plain words, with a countdown where waiting helps.
import { $, h, announce } from "./dom.js"

const sentences = {
  OFFLINE: 'You are offline. What you write is kept.',
  RATE_LIMITED: 'You have sent many messages in a short time.',
  TOO_MANY_STREAMS: 'Too many replies are open at once. Close a tab, or wait for a reply to end.',
  OVERLOADED: 'The server is busy. Nothing is broken, and nothing was lost.',
  QUEUE_FULL: 'Too many replies are waiting. Nothing was lost.',
  CHAT_DISABLED: 'Chat is switched off at the moment by the people who run it. What you write is kept.',
  UNAVAILABLE: 'The server is not available at the moment.',
  REPLY_IN_PROGRESS: 'A reply is still being written here. You can send when it has ended.',
  AI_UNAVAILABLE: 'The model cannot be reached at the moment. Your message is kept.',
  AI_FAILED: 'The model could not finish its reply. Your message is kept.',
  INTERRUPTED: 'The reply was interrupted. Its text so far is kept.',
  UNAUTHORIZED: 'Your session has ended.',
}

const budgets = {
  replies: 'As many replies as you may have at once are being written. You can send when one has ended.',
  files: 'Your files have used up their space. Delete some to upload more.',
}

// sentence says what a problem means to the user.
export function sentence(problem) {
  if (problem.code === 'BUDGET_EXCEEDED') {
    const known = budgets[problem.body.budget]
    if (known) return known
    const reset = new Date(problem.body.reset ?? NaN)
    const until = Number.isNaN(reset.getTime()) ? '' : ' It is renewed on ' + reset.toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' }) + '.'
    return 'Your budget does not cover another reply.' + until
  }
  return sentences[problem.code] ?? problem.message
}

export function clock(seconds) {
  const s = Math.max(0, Math.ceil(seconds))
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`
}

// countdown counts seconds down in an element, and calls done at the end. It
// returns a function that ends it.
export function countdown(el, seconds, done) {
  const end = performance.now() + seconds * 1000
  const tick = () => {
    const rest = (end - performance.now()) / 1000
    el.textContent = rest > 0 ? clock(rest) : ''
    if (rest > 0) return
    clearInterval(timer)
    done()
  }
  const timer = setInterval(tick, 250)
  tick()
  return () => clearInterval(timer)
}

// Trouble is the notice above the message box; there is at most one.
class Trouble {
  constructor() { this.end = () => {} }

  // show shows a sentence. wait: seconds that are counted down, at whose end
  // over is called. action: {label, run}; it is offered when the wait is over.
  show(text, { kind = 'warn', wait = 0, over = () => {}, action = null, key = text } = {}) {
    if (this.key === key && !wait) return
    this.clear()
    this.key = key
    const el = $('trouble')
    el.className = 'trouble ' + kind
    const offer = () => action && el.append(h('button', { type: 'button', class: 'quiet', text: action.label, on: { click: () => { this.clear(); action.run() } } }))
    el.replaceChildren(h('span', { text }))
    if (wait > 0) {
      const clockEl = h('strong', { class: 'clock' })
      const line = h('span', { class: 'wait' }, 'Again in ', clockEl)
      el.append(line)
      this.end = countdown(clockEl, wait, () => { line.remove(); over(); if (action) offer(); else this.clear() })
    } else offer()
    el.append(h('button', { type: 'button', class: 'quiet dismiss', text: 'Dismiss', on: { click: () => { over(); this.clear() } } }))
    el.hidden = false
    announce(text + (wait > 0 ? ` Again in ${Math.ceil(wait)} seconds.` : ''))
  }

  clear(key) {
    if (key && this.key !== key) return
    this.end()
    this.end = () => {}
    this.key = null
    $('trouble').hidden = true
    $('trouble').replaceChildren()
  }
}

export const trouble = new Trouble()

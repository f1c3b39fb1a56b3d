// The public API: JSON, server-sent events, uploads.
import { sleep } from "./dom.js"

// Problem is a refusal of the API, or the failure to reach it (status 0).
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body?.detail || body?.error?.message || 'The server did not answer')
    this.status = status
    this.code = body?.error?.code || (status === 0 ? 'OFFLINE' : 'UNKNOWN')
    this.body = body ?? {}
    this.retryAfter = retryAfter // seconds; 0: none
  }
}

// left is what the answers of sending routes say about limits.
export const left = { remaining: null, limit: null, tokens: null, usd: null }

function note(headers) {
  const number = (name) => (headers.has(name) ? Number(headers.get(name)) : null)
  if (headers.has('X-RateLimit-Remaining')) {
    left.remaining = number('X-RateLimit-Remaining')
    left.limit = number('X-RateLimit-Limit')
  }
  left.tokens = number('X-Budget-Remaining-Tokens') ?? left.tokens
  left.usd = number('X-Budget-Remaining-Usd') ?? left.usd
}

async function refusal(response) {
  let body = null
  try { body = await response.json() } catch { /* not a problem of Parley's, such as a proxy's page */ }
  return new Problem(response.status, body, Number(response.headers.get('Retry-After')) || 0)
}

// open sends a request and returns the response if it is no refusal.
export async function open(method, path, { body, headers = {}, signal } = {}) {
  let response
  try {
    response = await fetch(path, {
      method, signal, credentials: 'same-origin', cache: 'no-store', redirect: 'error',
      headers: body === undefined ? headers : { 'Content-Type': 'application/json', ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
  } catch (failure) {
    if (failure.name === 'AbortError') throw failure
    throw new Problem(0, { detail: 'There is no connection to the server' }, 0)
  }
  note(response.headers)
  if (!response.ok) throw await refusal(response)
  return response
}

// call sends a request and returns the JSON of the answer; null: it has none.
export async function call(method, path, options) {
  const response = await open(method, path, options)
  if (response.status === 204) return null
  try {
    return await response.json()
  } catch (failure) {
    if (failure.name === 'AbortError') throw failure
    throw new Problem(0, { detail: 'The connection broke' }, 0)
  }
}

export const get = (path, options) => call('GET', path, options)

// outside stands for the messages that are in no conversation: the default thread.
// No conversation can have it as its id.
export const outside = '/'
export const outsideTitle = 'Outside conversations'

// conversationId is what the API is told of a conversation.
export const conversationId = (id) => (id === outside ? undefined : id)

// query makes a query string of what is set.
export function query(values) {
  const out = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) if (value !== null && value !== undefined && value !== '') out.set(name, value)
  return '?' + out
}

// events reads server-sent events: {id, data} each, with the JSON decoded.
// It ends with the stream, and throws a Problem when the connection breaks.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  try {
    for (;;) {
      let chunk
      try {
        chunk = await reader.read()
      } catch (failure) {
        if (failure.name === 'AbortError') throw failure
        throw new Problem(0, { detail: 'The connection broke' }, 0)
      }
      if (chunk.done) return // an event that is not ended by an empty line is incomplete
      rest += chunk.value
      for (let end; (end = rest.indexOf('\n\n')) >= 0; rest = rest.slice(end + 2)) {
        let id = null
        let data = ''
        for (const line of rest.slice(0, end).split('\n')) {
          if (line.startsWith('id: ')) id = Number(line.slice(4))
          else if (line.startsWith('data: ')) data += line.slice(6)
        }
        if (data) yield { id, data: JSON.parse(data) }
      }
    }
  } finally {
    reader.cancel().catch(() => {})
  }
}

// upload sends a file, and tells its progress from 0 to 1. It asks again where the
// server is busy for a moment.
export async function upload(file, progress, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await uploadOnce(file, progress, signal)
    } catch (problem) {
      const wait = Math.max(problem.retryAfter, 1)
      if (signal.aborted || ![429, 503].includes(problem.status) || wait > 10 || tries === 5) throw problem
      await sleep(wait * 1000)
      if (signal.aborted) throw new DOMException('', 'AbortError')
    }
  }
}

function uploadOnce(file, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open('POST', '/api/chat/files' + query({ name: file.name || 'pasted' }))
    request.responseType = 'json'
    request.setRequestHeader('Content-Type', file.type || 'application/octet-stream')
    request.upload.onprogress = (e) => { if (e.lengthComputable) progress(e.loaded / e.total) }
    request.onload = () => {
      if (request.status === 201) return resolve(request.response)
      reject(new Problem(request.status, request.response, Number(request.getResponseHeader('Retry-After')) || 0))
    }
    request.onerror = () => reject(new Problem(0, { detail: 'The connection broke' }, 0))
    signal.addEventListener('abort', () => { request.abort(); reject(new DOMException('', 'AbortError')) })
    request.send(file)
  })
}

// features are the routes that this server has, from its description, so that
// controls without a route are not shown.
export async function features() {
  const description = await get('/api/openapi.json')
  const has = (path) => Object.keys(description.paths).some((known) => known.replace(/\{[^}]+\}/g, '{}') === path)
  return {
    search: has('/api/chat/search'),
    share: has('/api/chat/conversations/{}/shares'),
    feedback: has('/api/chat/messages/{}/feedback'),
  }
}

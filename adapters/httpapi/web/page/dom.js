// Building elements. Text is only ever set as text.

export const $ = (id) => document.getElementById(id)

// h makes an element. Properties: class, text, on (listeners), data, and
// attributes; a value of false, null or undefined leaves an attribute out.
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag)
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue
    if (name === 'class') el.className = value
    else if (name === 'text') el.textContent = value
    else if (name === 'on') for (const [event, listener] of Object.entries(value)) el.addEventListener(event, listener)
    else if (name === 'data') Object.assign(el.dataset, value)
    else el.setAttribute(name, value === true ? '' : value)
  }
  el.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false))
  return el
}

const svg = 'http://www.w3.org/2000/svg'

const icons = {
  menu: 'M4 7h16M4 12h16M4 17h10',
  close: 'M6 6l12 12M18 6L6 18',
  plus: 'M12 5v14M5 12h14',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M8 8h8v8H8z',
  attach: 'M20 11.5l-8 8a5 5 0 01-7-7l8.5-8.500a3.300 3.300 0 014.700 4.700l-8.500 8.500a1.700 1.700 0 01-2.400-2.400l7.800-7.800',
  copy: 'M9 9h10v11H9zM5 15V4h10',
  check: 'M5 12.500l4.500 4.500L19 7.500',
  edit: 'M4 20l1-4L16 5l3 3L8 19zM14 7l3 3',
  again: 'M20 12a8 8 0 11-2.500-5.800M20 4v4h-4',
  next: 'M5 12h13M13 7l5 5-5 5',
  left: 'M14 6l-6 6 6 6',
  right: 'M10 6l6 6-6 6',
  up: 'M7 11v9H4v-9zM7 11l4-7c1.500 0 2.500 1 2.500 2.500L13 10h5.500c1 0 1.700 1 1.500 2l-1.300 6.500c-.2.900-.9 1.500-1.800 1.500H7',
  down: 'M17 13V4h3v9zM17 13l-4 7c-1.500 0-2.500-1-2.500-2.500L11 14H5.500c-1 0-1.700-1-1.500-2l1.300-6.500C5.500 4.600 6.200 4 7.100 4H17',
  share: 'M12 15V4M8 8l4-4 4 4M5 13v7h14v-7',
  export: 'M12 4v11M8 11l4 4 4-4M5 20h14',
  trash: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.500 11v5M13.500 11v5',
  file: 'M7 3h7l4 4v14H7zM14 3v4h4',
}

export function icon(name) {
  const el = document.createElementNS(svg, 'svg')
  el.setAttribute('viewBox', '0 0 24 24')
  el.setAttribute('aria-hidden', 'true')
  el.classList.add('icon')
  const path = document.createElementNS(svg, 'path')
  path.setAttribute('d', icons[name])
  el.append(path)
  return el
}

// iconButton makes a button with an icon and a name.
export function iconButton(name, label, click, props = {}) {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, on: { click }, ...props }, icon(name))
}

// announce says a sentence through the page's live region.
export function announce(text) {
  const region = $('announce')
  region.textContent = ''
  requestAnimationFrame(() => { region.textContent = text })
}

export const sleep = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms)
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve() }, { once: true })
})

// pause lets the browser paint and take input before the rest is done.
export const pause = () => new Promise((resolve) => {
  const channel = new MessageChannel()
  channel.port1.onmessage = () => { channel.port1.close(); resolve() }
  channel.port2.postMessage(null)
})

// frame waits for the next frame; in a hidden tab there are none.
export const frame = () => new Promise((resolve) => (document.hidden ? setTimeout(resolve) : requestAnimationFrame(() => setTimeout(resolve))))

// newID makes an id for a message, a conversation or a request.
export function newID() {
  if (crypto.randomUUID) return crypto.randomUUID()
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, '0')).join('')
}

// stored keeps small values in the browser; without storage they last for the page.
const memory = new Map()
export const stored = {
  get(key) {
    try { return localStorage.getItem('parley.' + key) } catch { return memory.get(key) ?? null }
  },
  set(key, value) {
    try {
      if (value === null || value === '') localStorage.removeItem('parley.' + key)
      else localStorage.setItem('parley.' + key, value)
    } catch { memory.set(key, value) }
  },
}

export function bytes(n) {
  if (n < 1024) return `${n} B`
  if (n < 1024 * 1024) return `${Math.round(n / 1024)} KB`
  return `${(n / 1024 / 1024).toFixed(1)} MB`
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    const area = h('textarea', { class: 'sr', 'aria-hidden': 'true' })
    area.value = text
    document.body.append(area)
    area.select()
    document.execCommand('copy')
    area.remove()
  }
}

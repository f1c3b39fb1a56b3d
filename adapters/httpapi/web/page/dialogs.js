// Dialogs: a question, sharing, usage and settings.
import { $, h, iconButton, announce, copyText, stored } from "./dom.js"
import { call, get, left } from "./api.js"
import { sentence } from "./notice.js"

function dialog(title, ...content) {
  const heading = h('h2', { text: title, id: 'dialog-title' })
  const el = h('dialog', { class: 'dialog', 'aria-labelledby': 'dialog-title' },
    h('div', { class: 'dialog-head' }, heading, iconButton('close', 'Close', () => el.close())), ...content)
  el.addEventListener('close', () => el.remove())
  el.addEventListener('click', (e) => { if (e.target === el) el.close() })
  document.body.append(el)
  el.showModal()
  return el
}

// confirm asks before what cannot be undone.
export function confirm(title, text, label) {
  return new Promise((resolve) => {
    const el = dialog(title, h('p', { text }), h('div', { class: 'dialog-row' },
      h('button', { type: 'button', class: 'quiet', text: 'Cancel', on: { click: () => el.close() } }),
      h('button', { type: 'button', class: 'button danger', text: label, on: { click: () => { resolve(true); el.close() } } })))
    el.addEventListener('close', () => resolve(false))
  })
}

const lifetimes = [['', 'It does not expire'], ['1', 'One day'], ['7', 'One week'], ['30', '30 days']]

// share makes and revokes the links of a conversation.
export async function share(conversation, leaf) {
  const links = h('ul', { class: 'links' })
  const note = h('p', { class: 'dialog-note' })
  const expiry = h('select', { id: 'share-expiry' }, lifetimes.map(([value, text]) => h('option', { value, text })))
  const path = `/api/chat/conversations/${encodeURIComponent(conversation.id)}/shares`
  const made = h('div', { class: 'made', hidden: true })
  const draw = async () => {
    try {
      const { shares } = await get(path)
      links.replaceChildren(...shares.map((s) => h('li', {},
        h('span', {}, 'Made ' + new Date(s.createdAt).toLocaleDateString([], { dateStyle: 'medium' }),
          h('small', { text: s.expiresAt ? ' until ' + new Date(s.expiresAt).toLocaleDateString([], { dateStyle: 'medium' }) : ' without an end' })),
        h('button', { type: 'button', class: 'quiet', text: 'Revoke', 'aria-label': 'Revoke this link', on: { click: async () => {
          await call('DELETE', '/api/chat/shares/' + encodeURIComponent(s.id)).catch((p) => { note.textContent = sentence(p) })
          announce('The link was revoked')
          draw()
        } } }))))
    } catch (problem) {
      note.textContent = sentence(problem)
    }
  }
  const create = h('button', { type: 'button', class: 'button', text: 'Make a link', on: { click: async () => {
    const body = leaf ? { messageId: leaf } : {}
    if (expiry.value) body.expiresAt = new Date(Date.now() + Number(expiry.value) * 86_400_000).toISOString()
    try {
      const s = await call('POST', path, { body })
      const address = new URL(s.url, location.origin).href
      const field = h('input', { type: 'text', readonly: true, value: address, 'aria-label': 'The link' })
      made.replaceChildren(field, h('button', { type: 'button', class: 'button', text: 'Copy', on: { click: async () => { await copyText(address); announce('Link copied') } } }))
      made.hidden = false
      field.select()
      note.textContent = 'Keep the link: it is shown only now.'
      announce('The link was made')
      draw()
    } catch (problem) {
      note.textContent = sentence(problem)
    }
  } } })
  dialog('Share', h('p', { text: 'Anyone who has the link can read this conversation as it is now, without signing in. Later messages are not shared.' }),
    h('div', { class: 'dialog-row start' }, h('label', { for: 'share-expiry', text: 'Expires after' }), expiry, create), made, note, links)
  await draw()
}

const dollars = (n) => (n > 0 && n < 0.01 ? '< $0.01' : '$' + n.toFixed(2))

function meter(label, used, limit, show) {
  const part = limit ? Math.min(100, Math.round((used / limit) * 100)) : 0
  const bar = h('span', {})
  bar.style.inlineSize = part + '%'
  return h('div', { class: 'meter' }, h('div', { class: 'meter-line' }, h('span', { text: label }), h('span', { text: limit ? `${show(used)} of ${show(limit)}` : show(used) })),
    limit ? h('div', { class: 'usage-bar' + (part >= 90 ? ' full' : ''), role: 'meter', 'aria-label': label, 'aria-valuenow': String(part), 'aria-valuemin': '0', 'aria-valuemax': '100' }, bar) : null)
}

// usage shows what was used and what is left, and the settings of the page.
export async function usage() {
  const body = h('div', { class: 'usage-body' }, h('p', { class: 'dialog-note', text: 'Loading …' }))
  const chosen = document.documentElement.dataset.theme ?? 'system'
  const themes = h('fieldset', { class: 'themes' }, h('legend', { text: 'Colours' }), [['system', 'As the system'], ['light', 'Light'], ['dark', 'Dark']].map(([value, text]) =>
    h('label', {}, h('input', { type: 'radio', name: 'theme', value, checked: value === chosen, on: { change: () => setTheme(value) } }), h('span', { text }))))
  const keys = h('dl', { class: 'keys' }, [['Enter', 'Send'], ['Shift + Enter', 'New line'], ['↑ in an empty box', 'Edit your last message'], ['Esc', 'Stop the reply'], ['Ctrl + K', 'Search'], ['Ctrl + Shift + O', 'New conversation']]
    .map(([key, text]) => [h('dt', {}, h('kbd', { text: key })), h('dd', { text })]))
  dialog('Usage and settings', body, themes, h('h3', { text: 'Keys' }), keys,
    h('p', {}, h('a', { href: '/api/chat/export', download: 'chats.json', text: 'Download all my data' })))
  try {
    const u = await get('/api/chat/usage')
    const number = (n) => n.toLocaleString()
    const rows = []
    for (const [label, s] of [['Today', u.day], ['This month', u.month]]) {
      rows.push(meter(`${label}: tokens`, s.tokens + s.heldTokens, s.tokenLimit, number))
      if (s.costLimitUsd || s.costUsd) rows.push(meter(`${label}: cost`, s.costUsd + s.heldCostUsd, s.costLimitUsd, dollars))
    }
    rows.push(meter('Replies at once', u.concurrentReplies.live, u.concurrentReplies.limit, number))
    if (left.limit) rows.push(meter('Messages in this minute', left.limit - left.remaining, left.limit, number))
    body.replaceChildren(...rows)
  } catch (problem) {
    body.replaceChildren(h('p', { class: 'dialog-note', text: sentence(problem) }))
  }
}

function setTheme(theme) {
  if (theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
  stored.set('theme', theme === 'system' ? null : theme)
}

// drawUsage fills the bar in the list of conversations: the fuller of the day's
// and the month's budget.
export async function drawUsage() {
  const u = await get('/api/chat/usage').catch(() => null)
  if (!u) return
  const of = (s) => Math.max(s.tokenLimit ? (s.tokens + s.heldTokens) / s.tokenLimit : 0, s.costLimitUsd ? (s.costUsd + s.heldCostUsd) / s.costLimitUsd : 0)
  const limited = [u.day, u.month].filter((s) => s.tokenLimit || s.costLimitUsd)
  const used = Math.min(1, Math.max(0, ...[u.day, u.month].map(of)))
  const bar = $('usage').querySelector('.usage-bar')
  bar.hidden = limited.length === 0
  bar.classList.toggle('full', used > 0.9)
  bar.firstElementChild.style.inlineSize = Math.round(used * 100) + '%'
  $('usage').querySelector('.usage-label').textContent = limited.length ? `${Math.round((1 - used) * 100)} % of the budget left` : 'Usage and settings'
}

// The list of conversations, and the search.
import { $, h, icon, announce } from "./dom.js"
import { get, query, outside, outsideTitle } from "./api.js"
import { marked } from "./html.js"
import { live } from "./live.js"
import { sentence } from "./notice.js"

class Sidebar extends EventTarget {
  start() {
    this.list = []
    this.outside = undefined // whether there are messages outside conversations
    this.before = null
    this.current = null
    $('new').prepend(icon('plus'))
    $('open-sidebar').append(icon('menu'))
    $('close-sidebar').append(icon('close'))
    $('more-conversations').addEventListener('click', () => this.loadMore())
    const toggle = (open) => {
      document.documentElement.classList.toggle('sidebar-open', open)
      $('scrim').hidden = !open
      $('open-sidebar').setAttribute('aria-expanded', String(open))
      this.fit()
      if (open) $('close-sidebar').focus()
      else if (this.narrow.matches) $('open-sidebar').focus()
    }
    this.narrow = matchMedia('(max-width: 860px)')
    this.narrow.addEventListener('change', () => this.fit())
    this.close = () => { if (document.documentElement.classList.contains('sidebar-open')) toggle(false) }
    $('open-sidebar').addEventListener('click', () => toggle(true))
    $('close-sidebar').addEventListener('click', () => this.close())
    $('scrim').addEventListener('click', () => this.close())
    this.fit()
    $('search').addEventListener('input', () => this.type())
    $('search').addEventListener('keydown', (e) => {
      if (e.key === 'Escape') { $('search').value = ''; this.type(); e.stopPropagation() }
      if (e.key === 'ArrowDown') { $('results').querySelector('a')?.focus(); e.preventDefault() }
    })
    $('lists').addEventListener('keydown', (e) => {
      if (e.key !== 'ArrowDown' && e.key !== 'ArrowUp') return
      const links = [...$('lists').querySelectorAll('a')].filter((a) => a.offsetParent)
      const at = links.indexOf(document.activeElement)
      if (at < 0) return
      links[at + (e.key === 'ArrowDown' ? 1 : -1)]?.focus()
      e.preventDefault()
    })
    live.addEventListener('runs', (e) => { if (e.detail.runs.some((r) => r.conversationId === outside)) this.outside = true; this.marks(); this.refreshSoon() })
    live.addEventListener('conversations', () => this.refresh())
    addEventListener('online', () => this.refresh())
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.refresh() })
    setInterval(() => { if (!document.hidden) this.refresh() }, 60_000) // what other devices renamed or deleted
  }

  // fit takes the closed drawer out of the order of focus.
  fit() {
    const open = document.documentElement.classList.contains('sidebar-open')
    $('sidebar').inert = this.narrow.matches && !open
    $('main').inert = this.narrow.matches && open
  }

  refreshSoon() {
    clearTimeout(this.soon)
    this.soon = setTimeout(() => this.refresh(), 400)
  }

  // refresh reads the newest conversations again.
  async refresh() {
    let page
    try {
      page = await get('/api/chat/conversations' + query({ limit: 30 }))
      // An app that knows no conversations sends all messages outside of them.
      this.outside ??= (await get('/api/chat/messages' + query({ limit: 1 }))).messages.length > 0
    } catch (problem) {
      if (!this.list.length) {
        $('list-note').hidden = false
        $('list-note').textContent = problem.status === 401 ? '' : sentence(problem)
      }
      this.dispatchEvent(new CustomEvent('problem', { detail: problem }))
      return
    }
    const fresh = new Set(page.conversations.map((c) => c.id))
    const oldest = page.conversations.at(-1)?.lastMessageAt ?? ''
    // Of those that were loaded before, the older ones stay.
    const rest = page.pagination.hasMore ? this.list.filter((c) => !fresh.has(c.id) && c.lastMessageAt < oldest) : []
    if (!rest.length) this.before = page.pagination.hasMore ? page.pagination.before : null
    this.list = [...page.conversations, ...rest]
    this.draw()
    this.dispatchEvent(new Event('refreshed'))
  }

  async loadMore() {
    if (!this.before) return
    const page = await get('/api/chat/conversations' + query({ limit: 50, before: this.before })).catch(() => null)
    if (!page) return
    const known = new Set(this.list.map((c) => c.id))
    this.list.push(...page.conversations.filter((c) => !known.has(c.id)))
    this.before = page.pagination.hasMore ? page.pagination.before : null
    this.draw()
  }

  draw() {
    const ul = $('conversations')
    const focused = document.activeElement?.closest?.('#conversations a')?.dataset.id
    const have = new Map([...ul.children].map((li) => [li.dataset.id, li]))
    const shown = this.outside && !this.before ? [...this.list, { id: outside, title: outsideTitle }] : this.list
    const items = shown.map((c) => {
      const li = have.get(c.id) ?? h('li', { data: { id: c.id } }, h('a', { href: '/?c=' + encodeURIComponent(c.id), data: { id: c.id } }, h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span', { class: 'name' })))
      const name = li.querySelector('.name')
      const title = c.title ?? 'Untitled'
      if (name.textContent !== title) name.textContent = title
      return li
    })
    if (items.length !== ul.children.length || items.some((li, i) => ul.children[i] !== li)) {
      ul.replaceChildren(...items)
      if (focused) ul.querySelector(`a[data-id="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true })
    }
    $('list-note').hidden = shown.length > 0
    $('list-note').textContent = 'Your conversations will be listed here.'
    $('more-conversations').hidden = !this.before
    this.select(this.current)
    this.marks()
  }

  select(id) {
    this.current = id
    for (const a of $('conversations').querySelectorAll('a')) {
      if (a.dataset.id === id) a.setAttribute('aria-current', 'page')
      else a.removeAttribute('aria-current')
    }
  }

  // marks shows in which conversations a reply is being written.
  marks() {
    const busy = new Set([...live.runs.values()].map((r) => r.conversationId))
    for (const a of $('conversations').querySelectorAll('a')) a.classList.toggle('busy', busy.has(a.dataset.id))
  }

  type() {
    clearTimeout(this.typing)
    const q = $('search').value.trim()
    const searching = q !== ''
    $('results').hidden = !searching
    $('conversations').hidden = searching
    $('more-conversations').hidden = searching || !this.before
    $('list-note').hidden = searching || $('conversations').children.length > 0
    if (!searching) { this.asked = null; return }
    this.typing = setTimeout(() => this.search(q), 150)
  }

  async search(q, cursor = null) {
    const asked = (this.asked = {})
    let found
    try {
      found = await get('/api/chat/search' + query({ q, limit: 20, cursor }))
    } catch (problem) {
      if (this.asked !== asked) return
      $('results').replaceChildren(h('p', { class: 'list-note', text: sentence(problem) }))
      return
    }
    if (this.asked !== asked) return
    const items = found.results.map((r) => h('li', {}, h('a', {
      href: '/?c=' + encodeURIComponent(r.conversationId ?? outside) + (r.messageId ? '&m=' + encodeURIComponent(r.messageId) : ''), class: 'result',
    }, h('span', { class: 'name' }, r.titleHtml ? marked(r.titleHtml) : r.conversationId ? 'Untitled' : outsideTitle), r.snippetHtml && r.messageId ? h('span', { class: 'snippet' }, marked(r.snippetHtml)) : null)))
    const more = found.nextCursor ? h('button', { type: 'button', class: 'quiet more', text: 'More results', on: { click: () => this.search(q, found.nextCursor) } }) : null
    if (cursor) {
      $('results').querySelector('.more')?.remove()
      $('results').querySelector('ul').append(...items)
      if (more) $('results').append(more)
      items[0]?.querySelector('a').focus()
      return
    }
    $('results').replaceChildren(...(items.length ? [h('ul', { class: 'conversations' }, items), more].filter(Boolean) : [h('p', { class: 'list-note', text: `Nothing found for “${q}”.` })]))
    announce(items.length ? `${items.length} results` : 'Nothing found')
  }
}

export const sidebar = new Sidebar()

// A shared conversation: read only, without a session.
import { $, h, pause } from "./dom.js"
import { get } from "./api.js"
import { show } from "./message.js"
import { sentence } from "./notice.js"

export async function openShare(token) {
  $('empty').hidden = true
  $('title').textContent = 'Shared conversation'
  try {
    const shared = await get('/api/share/' + encodeURIComponent(token))
    const title = shared.title || 'Shared conversation'
    $('title').textContent = title
    document.title = title + ' · Parley'
    const made = new Date(shared.createdAt).toLocaleDateString([], { dateStyle: 'long' })
    const until = shared.expiresAt ? `, until ${new Date(shared.expiresAt).toLocaleDateString([], { dateStyle: 'long' })}` : ''
    $('messages').append(h('p', { class: 'shared-note', text: `Shared on ${made}${until}. It does not change.` }))
    let began = performance.now()
    for (const m of shared.messages) {
      $('messages').append(show(m, null, 'User'))
      if (performance.now() - began > 12) { await pause(); began = performance.now() }
    }
  } catch (problem) {
    const gone = problem.status === 404
    $('title').textContent = gone ? 'Not found' : 'Shared conversation'
    $('empty').replaceChildren(h('h2', { text: gone ? 'This link leads nowhere' : 'The conversation could not be loaded' }),
      h('p', { text: gone ? 'It may have expired, or been revoked.' : sentence(problem) }))
    $('empty').hidden = false
  }
}

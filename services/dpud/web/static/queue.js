// Rows come in live: each job that changes, as the row that the server made of it.
'use strict'
const table = document.getElementById('queue')
const live = document.getElementById('live')
const asked = new URLSearchParams(location.search)
const states = asked.getAll('state').filter(Boolean)

function fits (job) {
  if (states.length && !states.includes(job.state)) return false
  if (asked.get('sequence') && asked.get('sequence') !== job.sequence) return false
  return asked.get('user') !== 'mine' || job.user === table.dataset.user
}

function place (job) {
  const old = document.getElementById(`job-${job.id}`)
  if (!fits(job)) { if (old) old.remove(); return }
  const holder = document.createElement('template')
  holder.innerHTML = job.html
  const row = holder.content.querySelector('tr')
  if (old) { old.replaceWith(row); return }
  const body = table.tBodies[0]
  const after = [...body.rows].find(other => Number(other.id.slice(4)) < job.id)
  body.insertBefore(row, after || null)
  const empty = document.getElementById('empty')
  if (empty) empty.remove()
}

const source = new EventSource(`${document.documentElement.dataset.at}/live?after=${table.dataset.after}`)
source.addEventListener('job', event => place(JSON.parse(event.data)))
source.addEventListener('reload', () => location.reload())
source.onopen = () => { live.textContent = '· live' }
source.onerror = () => { live.textContent = '· the connection is lost: trying again' }

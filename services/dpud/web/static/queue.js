// Rows come in live: each job that changes, as the row that the server made of it, and which rows there are.
'use strict'
const table = document.getElementById('queue')
const body = table.tBodies[0]
const live = document.getElementById('live')
const pause = document.getElementById('pause')
const query = new URLSearchParams(location.search)
let source

function place (job) {
  const holder = document.createElement('template')
  holder.innerHTML = job.html
  const row = holder.content.querySelector('tr')
  const old = document.getElementById(row.id)
  if (!old) {
    const after = [...body.rows].find(other => Number(other.id.slice(4)) < job.id)
    body.insertBefore(row, after || null)
    return
  }
  row.querySelector('input').checked = old.querySelector('input').checked
  const focus = old.contains(document.activeElement) ? document.activeElement.tagName.toLowerCase() : ''
  old.replaceWith(row)
  if (focus) row.querySelector(focus).focus({ preventScroll: true })
}

function keep (numbers) {
  const there = new Set(numbers.map(number => `job-${number}`))
  for (const row of [...body.rows]) if (!there.has(row.id)) row.remove()
  document.getElementById('empty').hidden = numbers.length > 0
}

function load (figures) {
  for (const name of ['open', 'running', 'slots']) document.getElementById(`load-${name}`).textContent = figures[name]
  const meter = document.getElementById('load-meter')
  meter.max = Math.max(1, figures.slots)
  meter.value = figures.running
}

function duration (seconds) {
  const two = number => String(number).padStart(2, '0')
  const [days, hours, minutes] = [seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60].map(Math.floor)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${minutes}:${two(seconds % 60)}`
  return days ? `${days} d ${two(hours)}:${two(minutes)}` : `${hours}:${two(minutes)}:${two(seconds % 60)}`
}

function follow () {
  query.set('after', table.dataset.after)
  source = new EventSource(`${document.documentElement.dataset.at}/live?${query}`)
  source.addEventListener('job', event => place(JSON.parse(event.data)))
  source.addEventListener('rows', event => keep(JSON.parse(event.data)))
  source.addEventListener('load', event => load(JSON.parse(event.data)))
  source.addEventListener('reload', () => location.reload())
  source.onopen = () => { live.textContent = 'live' }
  source.onerror = () => { live.textContent = 'The connection is lost: trying again' }
}

pause.hidden = false
pause.addEventListener('click', () => {
  const paused = pause.getAttribute('aria-pressed') === 'true'
  pause.setAttribute('aria-pressed', String(!paused))
  if (paused) return follow()
  source.close()
  live.textContent = 'paused'
})
setInterval(() => {
  if (pause.getAttribute('aria-pressed') === 'true') return
  const now = Math.floor(Date.now() / 1000)
  for (const cell of body.querySelectorAll('[data-since]')) {
    cell.textContent = duration(Math.max(0, now - Number(cell.dataset.since)))
  }
}, 1000)
follow()

// The page of an open job: what changes of it is fetched anew, and the rest stays as it is: an open form, where one reads.
'use strict'
const PAUSE_MS = 1000
const job = document.getElementById('job')
const source = new EventSource(`${document.documentElement.dataset.at}/live?job=${job.dataset.job}&after=${job.dataset.after}`)
let waiting = false

async function renewed () {
  const answer = await fetch(location.href)
  if (!answer.ok || answer.redirected) return location.reload()
  const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
  const focus = document.activeElement
  const place = focus && (focus.getAttribute('href') || focus.getAttribute('aria-label'))
  for (const part of ['summary', 'progress']) {
    const old = document.getElementById(part)
    const scrolled = [...old.querySelectorAll('[tabindex="0"]')].map(each => [each.getAttribute('aria-label'), each.scrollTop])
    old.replaceWith(page.getElementById(part))
    for (const [label, top] of scrolled) {
      const fresh = document.querySelector(`#${part} [aria-label="${CSS.escape(label)}"]`)
      if (fresh) fresh.scrollTop = top
    }
  }
  // Whoever was on a link or in a table by keyboard still is.
  if (place && !document.contains(focus)) {
    const same = [...document.querySelectorAll('#summary a, #progress a, #progress [tabindex="0"]')]
      .find(each => (each.getAttribute('href') || each.getAttribute('aria-label')) === place)
    if (same) same.focus({ preventScroll: true })
  }
  // What can be done with a job that has ended is something else.
  const isOpen = page.querySelector('script[src="/static/job.js"]')
  if (!isOpen && !document.querySelector('.actions details[open]')) location.reload()
}

source.addEventListener('job', event => {
  if (JSON.parse(event.data).id !== Number(job.dataset.job) || waiting) return
  waiting = true
  setTimeout(() => { waiting = false; renewed().catch(() => {}) }, PAUSE_MS)
})
source.addEventListener('reload', () => location.reload())

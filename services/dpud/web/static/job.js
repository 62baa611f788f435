// The page of an open job is loaded anew when the job has changed, unless somebody is about to do something on it.
'use strict'
const job = document.getElementById('job')
const source = new EventSource(`${document.documentElement.dataset.at}/live?after=${job.dataset.after}`)
let waiting = false
source.addEventListener('job', event => {
  if (JSON.parse(event.data).id !== Number(job.dataset.job) || waiting) return
  waiting = true
  setTimeout(() => {
    waiting = false
    if (!document.querySelector('details[open]')) location.reload()
  }, 1000)
})
source.addEventListener('reload', () => location.reload())

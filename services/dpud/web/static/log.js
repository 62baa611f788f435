// Lines as they are written, behind those that the page came with; the oldest go when there are too many to look at.
'use strict'
const MOST = 5000
const log = document.getElementById('log')
const end = document.getElementById('end')
const shown = document.getElementById('shown')
const query = new URLSearchParams(location.search)
query.set('offset', log.dataset.offset)
const source = new EventSource(`${document.documentElement.dataset.at}/jobs/${log.dataset.job}/log/live?${query}`)
log.scrollTop = log.scrollHeight

source.addEventListener('lines', event => {
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40
  const all = document.createDocumentFragment()
  for (const [time, task, level, text] of JSON.parse(event.data)) {
    const line = document.createElement('span')
    line.className = level
    const words = document.createElement('bdi')
    words.textContent = text
    line.append(`${time} [${task}] `, words, '\n')
    all.append(line)
  }
  log.append(all)
  while (log.childElementCount > MOST) log.firstElementChild.remove()
  shown.textContent = `The last ${log.childElementCount} lines${log.dataset.fit}`
  if (atEnd) log.scrollTop = log.scrollHeight
})
source.addEventListener('end', event => {
  end.textContent = JSON.parse(event.data)
  source.close()
})
source.addEventListener('reload', () => location.reload())
source.onopen = () => { end.textContent = '' }
source.onerror = () => { end.textContent = 'The connection is lost: trying again' }

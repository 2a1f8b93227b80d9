// Opens a page with `script` in headless Chromium, puts `file` into its <input>, has it upload as `told`, and prints what
// came of it and which requests were answered. The page is served from an origin of its own. With `awaited` it stays
// until a request of that method is answered. The argument is JSON.
import { createServer } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'

const CHROMIUM = '/usr/bin/chromium'
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
const PAGE = '<!doctype html><meta charset="utf-8"><title>Clients</title><input type="file"><script type="module" src="/page.js"></script>'

const { script, file, told, awaited, profile, milliseconds } = JSON.parse(process.argv[2])

async function serve() {
  const bundle = await build({ entryPoints: [script], bundle: true, format: 'esm', write: false, logLevel: 'error' })
  const server = createServer((request, response) => {
    const [type, body] = request.url === '/page.js' ? ['text/javascript', bundle.outputFiles[0].contents] : ['text/html', PAGE]
    response.writeHead(200, { 'Content-Type': `${type}; charset=utf-8` }).end(body)
  })
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
  return server
}

async function upload(page, origin) {
  const answers = []
  const complaints = []
  page.setDefaultTimeout(milliseconds)
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
  page.on('response', (answer) => answers.push({ method: answer.request().method(), url: answer.url(), status: answer.status() }))
  await page.goto(origin)
  await page.setInputFiles('input', file)
  await page.waitForFunction(() => window.upload)
  const last = awaited && page.waitForResponse((answer) => answer.request().method() === awaited)
  const outcome = await page.evaluate((given) => window.upload(document.querySelector('input').files[0], given), told)
  await last
  return { ...outcome, answers, complaints }
}

async function deadline() {
  await sleep(milliseconds, undefined, { ref: false })
  throw new Error(`the page was not done after ${milliseconds} ms`)
}

const server = await serve()
const browser = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, args: FLAGS, headless: true })
try {
  const outcome = upload(await browser.newPage(), `http://127.0.0.1:${server.address().port}/`)
  process.stdout.write(JSON.stringify(await Promise.race([outcome, deadline()])))
} finally {
  await browser.close()
  server.close()
}

// A person at a real browser: signs in, looks, mistypes the code, claims, rejects. Takes pictures of every page and has
// axe-core look at it. SETTINGS is JSON; prints what it found as JSON.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { library } from './common.mjs'

const { chromium } = (await library('playwright-core')).default
const require = createRequire(join(process.env.CLAIMBOUND_TEST_TOOLS, 'node', 'package.json'))
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')
const { broker, login, first, strange } = JSON.parse(process.env.SETTINGS)
const found = { pages: [], violations: [], wide: [], complaints: [], texts: {} }

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
})
const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, reducedMotion: 'reduce' })
const page = await context.newPage()
page.setDefaultTimeout(20_000)
page.on('console', (message) => {
  // What a page's status alone makes the browser say is not the page's.
  if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) found.complaints.push(message.text())
})

async function look(name) {
  found.pages.push(name)
  found.texts[name] = await page.innerText('main')
  for (const scheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: scheme })
    await page.screenshot({ path: join(process.env.PICTURES, `${name}-${scheme}.png`), fullPage: true })
    await page.evaluate(axe)
    const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
    for (const violation of result.violations) {
      found.violations.push(`${name} ${scheme}: ${violation.id}: ${violation.nodes.map((node) => node.html).join(' ')}`)
    }
  }
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize({ width: 340, height: 740 })
  await page.screenshot({ path: join(process.env.PICTURES, `${name}-narrow.png`), fullPage: true })
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
  if (over > 0) found.wide.push(`${name}: ${over} pixels`)
  await page.setViewportSize({ width: 1100, height: 800 })
}

async function claim(code, reason) {
  await page.fill('#code', code)
  await page.fill('#reason', reason)
  await page.click('main form:has(#code) button')
}

try {
  await page.goto(first.uri)
  await look('start')
  await page.click('text=Sign in with idp')
  await page.fill('input[name=login]', login)
  await page.fill('input[name=password]', 'any')
  await page.click('button[type=submit]')
  await page.click('button[type=submit]') // what the client may know
  await page.waitForURL(first.uri)
  await look('review')
  found.cookies = (await context.cookies(broker)).filter(({ name }) => name.startsWith('claimbound')).map(({ name, httpOnly, sameSite }) => ({ name, httpOnly, sameSite }))

  // By keyboard: the first stop leads past everything else.
  await page.keyboard.press('Tab')
  found.firstStop = await page.evaluate(() => document.activeElement.className)
  await page.keyboard.press('Enter')
  found.afterSkip = await page.evaluate(() => document.activeElement.id)

  found.left = []
  for (let number = 0; number < 4; number++) {
    await claim('0000-0000', 'release 1.2')
    await page.waitForSelector('#problem')
    found.left.push((await page.innerText('main')).match(/You have .* left/)?.[0])
    if (number === 0) await look('wrong-code')
  }
  await claim(first.code.toLowerCase(), 'release 1.2')
  await page.waitForSelector('text=It is claimed.')
  await look('claimed')
  // The job comes for it.
  for (let number = 0; number < 60 && !(await page.innerText('main')).includes('It is done.'); number++) {
    await page.waitForTimeout(500)
    await page.reload()
  }
  await look('done')

  await page.goto(strange.uri)
  await look('strange')
  await page.fill('#why', 'not ours')
  await page.click('text=Reject for everybody')
  await page.waitForSelector('text=It was rejected')
  await look('rejected')
  await page.click('text=Your ceremonies')
  await page.waitForSelector('h1:has-text("Your ceremonies")')
  await look('list')
  await page.goto(`${broker}/claim/0123456789abcdef0123456789abcdef`)
  await look('nothing')

  // In somebody else's frame there is nothing to click on.
  const other = await context.newPage()
  await other.route('https://evil.example/', (route) =>
    route.fulfill({ contentType: 'text/html', body: `<iframe src="${first.uri}"></iframe>` }))
  await other.goto('https://evil.example/')
  found.framed = await other.frames()[1].locator('body').innerText().catch(() => '')
  await other.close()

  await page.click('text=Sign out')
  await page.waitForSelector('h1:has-text("Sign in")')
  await look('signed-out')
  await page.goto(`${broker}/claim/callback?code=x&state=y`)
  await look('no-sign-in')
} catch (error) {
  console.error(`${error}\n${page.url()}\n${await page.innerText('body').catch(() => '')}`)
  process.exitCode = 1
} finally {
  await browser.close()
}
console.log(JSON.stringify(found))

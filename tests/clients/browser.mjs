// A real browser for the pages: takes pictures of each, and has axe-core look at it. SETTINGS is JSON.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { library } from './common.mjs'

const { chromium } = (await library('playwright-core')).default
const require = createRequire(join(process.env.CLAIMBOUND_TEST_TOOLS, 'node', 'package.json'))
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8')

export const settings = JSON.parse(process.env.SETTINGS)
export const found = { pages: [], violations: [], wide: [], complaints: [], texts: {} }

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
})
export const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, reducedMotion: 'reduce' })
export const page = await context.newPage()
page.setDefaultTimeout(20_000)
page.on('console', (message) => {
  // What a page's status alone makes the browser say is not the page's.
  if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) found.complaints.push(message.text())
})

export async function look(name) {
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

/** From the page that asks for it, as far as that leads. */
export async function signIn(login) {
  await page.click('text=Sign in with idp')
  await page.fill('input[name=login]', login)
  await page.fill('input[name=password]', 'any')
  await page.click('button[type=submit]')
  await page.click('button[type=submit]') // what the client may know
}

/** Does it, and prints what was found as JSON. */
export async function drive(way) {
  try {
    await way()
  } catch (error) {
    console.error(`${error}\n${page.url()}\n${await page.innerText('body').catch(() => '')}`)
    process.exitCode = 1
  } finally {
    await browser.close()
  }
  console.log(JSON.stringify(found))
}

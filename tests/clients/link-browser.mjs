// A person at a real browser who shows which account at a code host is theirs, and whose code host then knows nothing of it.
import { drive, look, page, settings, signIn } from './browser.mjs'

const { uri, login, host } = settings

await drive(async () => {
  await page.goto(uri)
  await signIn(login)
  await page.waitForURL(uri)
  await look('unlinked')
  await page.click('text=Your ceremonies')
  await page.waitForSelector('h2:has-text("Your accounts")')
  await look('accounts')
  // The code host has nothing to show: the page that leads there stays.
  let asked
  await page.route(`${host}/**`, (route) => {
    asked = new URL(route.request().url()).searchParams
    return route.fulfill({ status: 204 })
  })
  const gone = page.waitForRequest((request) => request.url().startsWith(host))
  await page.click('text=Link your account at github', { noWaitAfter: true })
  await gone
  await page.waitForSelector('h1:has-text("Going on to github")')
  await look('going')
  await page.goto(`${asked.get('redirect_uri')}?code=none&state=${asked.get('state')}`)
  await page.waitForSelector('h1:has-text("Is this account yours?")')
  await look('confirm')
  await page.click('text=Link my account')
  await page.waitForSelector('text=Nothing was linked')
  await look('not-linked')
})

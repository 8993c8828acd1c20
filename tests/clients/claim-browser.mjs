// A person at a real browser: signs in, looks, mistypes the code, claims, rejects.
import { context, drive, found, look, page, settings, signIn } from './browser.mjs'

const { broker, login, first, strange } = settings

async function claim(code, reason) {
  await page.fill('#code', code)
  await page.fill('#reason', reason)
  await page.click('main form:has(#code) button')
}

await drive(async () => {
  await page.goto(first.uri)
  await look('start')
  await signIn(login)
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
})

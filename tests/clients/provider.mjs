// An OpenID provider of people for the tests: oidc-provider with forms that take any password. ACCOUNTS is JSON, login →
// claims. Prints its issuer when it listens.
import { createServer } from 'node:http'
import { library } from './common.mjs'

const { default: Provider } = await library('oidc-provider')
const accounts = JSON.parse(process.env.ACCOUNTS)
const server = createServer()
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const issuer = `http://127.0.0.1:${server.address().port}`
const native = {
  application_type: 'native',
  grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
  redirect_uris: ['http://127.0.0.1/callback', 'http://127.0.0.1/claim/callback'],
  response_types: ['code'],
}
const provider = new Provider(issuer, {
  claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'], groups: ['groups', 'github_id'] },
  clients: [
    { ...native, client_id: 'confidential', client_secret: 'secret of the provider', token_endpoint_auth_method: 'client_secret_basic' },
    { ...native, client_id: 'public', token_endpoint_auth_method: 'none' },
  ],
  conformIdTokenClaims: false,
  cookies: { keys: ['a key of the tests'] },
  features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true } },
  findAccount: (_, id) => accounts[id] && { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) },
})
server.on('request', provider.callback())
console.log(JSON.stringify({ issuer }))

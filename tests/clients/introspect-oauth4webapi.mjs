// Introspection by oauth4webapi, the status list by jose and zlib: before and behind the end of a token.
import { inflateSync } from 'node:zlib'
import { library, settings } from './common.mjs'

const oauth = await library('oauth4webapi')
const jose = await library('jose')
const set = settings()
const http = { [oauth.allowInsecureRequests]: set.plainHttp }
const token = process.env.ACCESS_TOKEN

// Both documents name the endpoint.
const documents = ['oauth2', 'oidc'].map(async (algorithm) => {
  const found = await oauth.discoveryRequest(set.broker, { algorithm, ...http })
  return oauth.processDiscoveryResponse(set.broker, found)
})
const [server, issuer] = await Promise.all(documents)
const client = { client_id: process.env.CLIENT_ID }
const authentication = oauth.ClientSecretBasic(process.env.CLIENT_SECRET)

async function introspected(as) {
  const sent = await oauth.introspectionRequest(as, client, authentication, token, http)
  return oauth.processIntrospectionResponse(as, client, sent)
}

const keys = jose.createRemoteJWKSet(new URL(server.jwks_uri))
const { status } = jose.decodeJwt(token)
const { idx, uri } = status.status_list

/** The token's bit, from a list that is what it should be. */
async function bit() {
  const answer = await fetch(uri, { headers: { accept: 'application/statuslist+jwt' } })
  if (answer.headers.get('content-type') !== 'application/statuslist+jwt') throw new Error(`${answer.status}`)
  const verified = await jose.jwtVerify(await answer.text(), keys, {
    typ: 'statuslist+jwt',
    subject: uri,
    issuer: set.issuer,
    requiredClaims: ['sub', 'iat', 'exp', 'ttl', 'status_list'],
  })
  const { bits, lst } = verified.payload.status_list
  if (bits !== 1) throw new Error(`bits ${bits}`)
  const list = inflateSync(Buffer.from(lst, 'base64url'))
  return (list[idx >> 3] >> (idx & 7)) & 1
}

const before = [await introspected(server), await introspected(issuer), await bit()]
const ended = await oauth.revocationRequest(server, client, oauth.None(), token, http)
await oauth.processRevocationResponse(ended)
const after = await introspected(server)
let last
for (const deadline = Date.now() + 30_000; Date.now() < deadline && last !== 1; ) last = await bit()
console.log(JSON.stringify({ before, after, last }))

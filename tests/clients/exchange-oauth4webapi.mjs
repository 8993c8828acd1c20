// A token exchange by oauth4webapi: discovery by RFC 8414, exchange by RFC 8693, verification by jose.
import { TOKEN_EXCHANGE, library, parameters, refused, settings, verified } from './common.mjs'

const oauth = await library('oauth4webapi')
const set = settings()
const http = { [oauth.allowInsecureRequests]: set.plainHttp }

const found = await oauth.discoveryRequest(set.broker, { algorithm: 'oauth2', ...http })
const server = await oauth.processDiscoveryResponse(set.broker, found)

// The broker asks for no client authentication: the token is the proof.
const client = { client_id: 'claimbound-test' }
const sent = await oauth.genericTokenEndpointRequest(server, client, oauth.None(), TOKEN_EXCHANGE, parameters(set), http)
try {
  const answer = await oauth.processGenericTokenEndpointResponse(server, client, sent)
  await verified(answer, server.jwks_uri, set)
} catch (error) {
  refused(error, error instanceof oauth.ResponseBodyError ? error.cause : undefined)
}

// A token exchange by openid-client: discovery by RFC 8414, exchange by RFC 8693, verification by jose.
import { TOKEN_EXCHANGE, library, parameters, refused, settings, verified } from './common.mjs'

const client = await library('openid-client')
const set = settings()

// The broker asks for no client authentication: the token is the proof.
const config = await client.discovery(set.broker, 'claimbound-test', undefined, client.None(), {
  algorithm: 'oauth2',
  execute: set.plainHttp ? [client.allowInsecureRequests] : [],
})
try {
  const answer = await client.genericGrantRequest(config, TOKEN_EXCHANGE, parameters(set))
  await verified(answer, config.serverMetadata().jwks_uri, set)
} catch (error) {
  refused(error, error instanceof client.ResponseBodyError ? error.cause : undefined)
}

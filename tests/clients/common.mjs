// What both client scripts share: the libraries from `target/tools`, the settings from the environment, and the
// check of the returned credential by a third implementation.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
export const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token'

function required(name) {
  const value = process.env[name]
  if (!value) {
    console.error(`${name} is not set`)
    process.exit(2)
  }
  return value
}

/**
 * BROKER_URL, SUBJECT_TOKEN; ACTOR_TOKEN where somebody acts; ROLE (may be left out where one role is possible);
 * EXPECT_ISSUER, EXPECT_AUDIENCE; PRINT_TOKEN has the credential printed too.
 */
export function settings() {
  const broker = required('BROKER_URL')
  return {
    broker: new URL(broker),
    plainHttp: broker.startsWith('http://127.0.0.1') || broker.startsWith('http://[::1]'),
    subjectToken: required('SUBJECT_TOKEN'),
    actorToken: process.env.ACTOR_TOKEN,
    role: process.env.ROLE,
    issuer: process.env.EXPECT_ISSUER ?? broker,
    audience: required('EXPECT_AUDIENCE'),
  }
}

/** A package of tests/tools/package-lock.json, as `scripts/tools` installed it. */
export async function library(name) {
  const resolve = createRequire(join(required('CLAIMBOUND_TEST_TOOLS'), 'node', 'package.json')).resolve
  return import(pathToFileURL(resolve(name)))
}

/** The parameters of RFC 8693, section 2.1. */
export function parameters({ subjectToken, actorToken, role }) {
  return {
    subject_token: subjectToken,
    subject_token_type: ID_TOKEN,
    ...(actorToken && { actor_token: actorToken, actor_token_type: ID_TOKEN }),
    ...(role && { audience: role }),
  }
}

/** Verifies the credential by the published keys and prints one line of JSON. */
export async function verified(answer, jwksUri, { issuer, audience }) {
  const jose = await library('jose')
  const keys = jose.createRemoteJWKSet(new URL(jwksUri))
  const { payload, protectedHeader } = await jose.jwtVerify(answer.access_token, keys, {
    issuer,
    audience,
    typ: 'JWT',
    algorithms: ['ES256', 'RS256'],
    requiredClaims: ['sub', 'iat', 'nbf', 'exp', 'jti', 'role', 'mapping', 'lease_id', 'principal'],
  })
  const { access_token: token, ...rest } = answer
  const shown = process.env.PRINT_TOKEN ? { access_token: token } : {}
  console.log(JSON.stringify({ header: protectedHeader, payload, answer: rest, ...shown }))
}

/** Prints a refusal as one line of JSON and exits 3; anything else is thrown on. */
export function refused(error, body) {
  if (body === undefined) throw error
  console.log(JSON.stringify({ refused: body }))
  process.exitCode = 3
}

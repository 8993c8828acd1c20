// What is said to the broker, and what its answers mean. Nothing an answer says steers where anything is sent.

import { readFileSync, statSync } from "node:fs";
import type { Pending } from "./ceremony.ts";
import { Failure } from "./failure.ts";
import type { Reply, Send } from "./http.ts";
import type { Inputs } from "./inputs.ts";
import { refusal } from "./report.ts";
import { answered, DECISION_ID, Passing } from "./retry.ts";
import { member, plain, SECRET_CHARS_MIN } from "./text.ts";

export interface Aws {
    kind: "aws";
    accessKeyId: string;
    secretAccessKey: string;
    sessionToken: string;
    region: string | undefined;
    accountId: string;
    assumedRoleArn: string;
}
export interface Jwt {
    kind: "jwt";
    jwt: string;
}
export interface Decision {
    decisionId: string;
    role: string;
    mapping: string;
    expiresInSeconds: number;
    /** Of a dry run: somebody would have to claim it first. */
    pending: boolean;
}
export interface Granted extends Decision {
    /** Ends the lease; a secret. */
    handle: string;
    leaseId: string;
    expiresAtMs: number;
    credential: Aws | Jwt;
}

type Json = Record<string, unknown>;

/** No credential and no request lives longer; beyond, dates and timers would be something else than what is meant. */
const LIFE_SECONDS_MAX = 366 * 86_400;
/** Whoever is to ask less often than this asks too seldom to be there in time. */
const INTERVAL_SECONDS_MAX = 600;
/** Roles, mappings, ids: outputs of the step, which workflows put into scripts. */
const NAME = /^[\w.:\/-]{1,256}$/;
/** What AWS gives; it stands in files that shells and SDKs read, each by rules of its own. */
const AWS_VALUE = /^[\w+\/=.:@-]+$/;
/** The broker takes none that is longer. */
const TOKEN_CHARS_MAX = 16 * 1024;
/** Revoking is a courtesy at the job's end; nobody waits long for it. */
const REVOKE_MS_MAX = 10_000;

export const unreachable = "broker_unreachable";
/** OpenID Connect Client-Initiated Backchannel Authentication, section 10.1. */
const CIBA = "urn:openid:params:grant-type:ciba";

/** Compares what the broker says of itself with what is expected of it. Throws before any token is asked for. Its clock,
 * in seconds since 1970, if it shows one. */
export async function compare(send: Send, inputs: Inputs, timeoutMs: number): Promise<number | undefined> {
    const whom = `The broker at ${inputs.brokerUrl}`;
    const url = `${inputs.brokerUrl}/.well-known/claimbound`;
    const reply = await answered(send({ method: "GET", url, timeoutMs }), whom, unreachable);
    followNothing(reply, inputs);
    const facts = reply.body;
    if (reply.status !== 200 || !isObject(facts)) {
        const text = `No claimbound broker answers at ${inputs.brokerUrl}: ${url} gave ${reply.status}`;
        throw new Failure("answer_invalid", `${text}. Check \`broker-url\`; no token was requested`);
    }
    const expected = { audience: inputs.audience, issuer: inputs.audience, token_endpoint: `${inputs.audience}/token` };
    const wrong = Object.entries(expected).filter(([name, value]) => facts[name] !== value);
    if (wrong.length === 0) return Number.isSafeInteger(facts.time) ? Number(facts.time) : undefined;
    const lines = wrong.map(
        ([name, value]) => `  ${name}: expected ${value}, it says ${plain(facts[name]) || "nothing"}`,
    );
    throw new Failure(
        "audience_mismatch",
        `${whom} says that it is another one, so no token was requested:\n${lines.join("\n")}\n` +
            "`broker-url` must be the broker's `public_url`, exactly. If this is another address of the same broker, " +
            "give its `public_url` as `audience`. If you know neither, do not go on: a token for another broker is " +
            "what an impostor would want.",
    );
}

/** One exchange, with a token that no exchange has seen. */
export async function exchange(
    send: Send,
    inputs: Inputs,
    token: string,
    mask: (secret: string) => void,
    nowMs: () => number,
    timeoutMs: number,
): Promise<Granted | Decision | Pending> {
    const form = new URLSearchParams({
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token: token,
        subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    });
    if (inputs.role !== undefined) form.set("audience", inputs.role);
    if (inputs.durationSeconds !== undefined) form.set("requested_expires_in", String(inputs.durationSeconds));
    if (inputs.dryRun) form.set("dry_run", "true");
    if (inputs.actorTokenFile !== undefined) {
        const actor = tokenOf(inputs.actorTokenFile);
        mask(actor);
        form.set("actor_token", actor);
        form.set("actor_token_type", "urn:ietf:params:oauth:token-type:jwt");
    }
    const reply = await asked(send, inputs, form, timeoutMs);
    if (isObject(reply.body) && reply.body.error === "authorization_pending") return waiting(reply.body, inputs, mask);
    return await decided(send, inputs, reply, mask, nowMs);
}

/** Read for each exchange, since whoever acts renews it. */
function tokenOf(path: string): string {
    let text = "";
    try {
        // What has no size may have no end.
        const { size } = statSync(path);
        if (size > 0 && size <= 2 * TOKEN_CHARS_MAX) text = readFileSync(path, "utf8").trim();
    } catch {
        // Told below: what is no file is no token, either.
    }
    if (text.length <= TOKEN_CHARS_MAX && /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text)) return text;
    throw new Failure(
        "input_invalid",
        `\`actor-token-file\` is \`${plain(path)}\`, which is no file with a token (JWT)`,
    );
}

/** Whether somebody has claimed it (OpenID CIBA, poll mode). Spends nothing. */
export async function poll(
    send: Send,
    inputs: Inputs,
    pending: Pending,
    timeoutMs: number,
): Promise<"pending" | "slow_down" | "ready"> {
    const form = new URLSearchParams({ grant_type: CIBA, auth_req_id: pending.authReqId });
    const reply = await asked(send, inputs, form, timeoutMs);
    const body = isObject(reply.body) ? reply.body : {};
    if (body.error === "slow_down") return "slow_down";
    if (body.error === "authorization_pending") return body.ready === true ? "ready" : "pending";
    throw refused(reply, inputs);
}

/** Trades what was claimed for the credential, with a token of this job that no exchange has seen. */
export async function redeem(
    send: Send,
    inputs: Inputs,
    pending: Pending,
    subjectToken: string,
    mask: (secret: string) => void,
    nowMs: () => number,
    timeoutMs: number,
): Promise<Granted | Decision | "pending"> {
    const form = new URLSearchParams({
        grant_type: CIBA,
        auth_req_id: pending.authReqId,
        subject_token: subjectToken,
        subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    });
    const reply = await asked(send, inputs, form, timeoutMs);
    const error = isObject(reply.body) ? reply.body.error : undefined;
    if (error === "authorization_pending" || error === "slow_down") return "pending";
    return await decided(send, inputs, reply, mask, nowMs);
}

async function asked(send: Send, inputs: Inputs, form: URLSearchParams, timeoutMs: number): Promise<Reply> {
    const sent = send({ method: "POST", url: `${inputs.brokerUrl}/token`, form, timeoutMs });
    const reply = await answered(sent, `The broker at ${inputs.brokerUrl}`, unreachable);
    followNothing(reply, inputs);
    return reply;
}

async function decided(
    send: Send,
    inputs: Inputs,
    reply: Reply,
    mask: (secret: string) => void,
    nowMs: () => number,
): Promise<Granted | Decision> {
    if (reply.status !== 200 || !isObject(reply.body)) throw refused(reply, inputs);
    for (const secret of secretsOf(reply.body)) mask(secret);
    try {
        return inputs.dryRun ? judged(reply.body, inputs) : granted(reply.body, inputs, nowMs());
    } catch (error) {
        throw error instanceof Failure ? await discarded(send, inputs, reply.body, error) : error;
    }
}

function refused(reply: Reply, inputs: Inputs): Failure {
    if (isObject(reply.body) && typeof reply.body.error === "string") return refusal(reply.body, inputs.role);
    const text = `${inputs.brokerUrl}/token gave ${reply.status} and not what a broker answers`;
    return new Failure("answer_invalid", text);
}

function waiting(body: Json, inputs: Inputs, mask: (secret: string) => void): Pending {
    const authReqId = secret(body, "auth_req_id");
    mask(authReqId);
    const claimUri = word(body, "claim_uri");
    // People follow this link and sign in there: it may lead to this broker alone.
    if (!claimUri.startsWith(`${inputs.audience}/claim/`)) throw odd("a `claim_uri` that is not the broker's own");
    return {
        decisionId: name(body, "decision_id"),
        authReqId,
        claimUri,
        matchCode: word(body, "match_code"),
        words: plain(body.match_words),
        intervalSeconds: positive(body, "interval", INTERVAL_SECONDS_MAX),
        expiresInSeconds: positive(body, "expires_in", LIFE_SECONDS_MAX),
    };
}

/** Ends a lease, or withdraws a request. Throws if the broker did not say that it did. */
export async function revoke(send: Send, brokerUrl: string, handle: string): Promise<void> {
    const form = new URLSearchParams({ token: handle });
    const asked = send({ method: "POST", url: `${brokerUrl}/revoke`, form, timeoutMs: REVOKE_MS_MAX });
    const reply = await answered(asked, `The broker at ${brokerUrl}`, unreachable);
    if (reply.status !== 200) throw new Passing(unreachable, `The broker at ${brokerUrl} answered ${reply.status}`);
}

/** An answer that is not to be used may have opened a lease all the same: one try to end it, and what came of it. */
async function discarded(send: Send, inputs: Inputs, body: Json, failure: Failure): Promise<Failure> {
    const decisionId = member(body, "decision_id", DECISION_ID);
    const handle = body.access_token;
    // What is too short to be masked is no handle, either.
    if (typeof handle !== "string" || handle.length < SECRET_CHARS_MIN) {
        return new Failure(failure.reason, failure.message, { decisionId });
    }
    const end = await revoke(send, inputs.brokerUrl, handle).then(
        () => "Its lease is ended at the broker",
        (error: Error) => `Its lease was not ended at the broker and runs out by itself. ${error.message}`,
    );
    return new Failure(failure.reason, `${failure.message}. ${end}`, { decisionId });
}

function followNothing(reply: Reply, inputs: Inputs): void {
    if (reply.status < 300 || reply.status > 399) return;
    const text = `${inputs.brokerUrl} redirects (${reply.status}), and redirects are not followed: a token would travel`;
    throw new Failure("redirect", `${text} where nobody configured it. Give the broker's own URL as \`broker-url\``);
}

/** Everything in a success that must never be seen, before anything else looks at it. */
export function secretsOf(body: Json): string[] {
    const open = ["kind", "region", "expiration", "assumed_role_arn"];
    const credential = isObject(body.credential) ? Object.entries(body.credential) : [];
    const found = [
        body.access_token,
        body.refresh_token,
        ...credential.flatMap(([k, v]) => (open.includes(k) ? [] : [v])),
    ];
    const texts = found.filter((value): value is string => typeof value === "string");
    // A JWT's signature is what makes it worth stealing; alone it must not be readable either.
    const parts = texts.flatMap((text) => [
        ...text.split(/\r?\n/),
        text.split(".").length === 3 ? (text.split(".")[2] ?? "") : "",
    ]);
    return [...new Set(parts)].filter((text) => text.length >= SECRET_CHARS_MIN);
}

function judged(body: Json, inputs: Inputs): Decision {
    if (body.dry_run !== true) throw odd("a credential although a dry run was asked for");
    return {
        decisionId: name(body, "decision_id"),
        role: wanted(name(body, "role"), inputs),
        mapping: name(body, "mapping"),
        expiresInSeconds: seconds(body),
        pending: body.pending === true,
    };
}

function granted(body: Json, inputs: Inputs, nowMs: number): Granted {
    const expiresInSeconds = seconds(body);
    const credential = isObject(body.credential) ? body.credential : {};
    return {
        decisionId: name(body, "decision_id"),
        leaseId: name(body, "lease_id"),
        role: wanted(name(body, "role"), inputs),
        mapping: name(body, "mapping"),
        expiresInSeconds,
        pending: false,
        expiresAtMs: nowMs + expiresInSeconds * 1000,
        handle: secret(body, "access_token"),
        credential: "access_key_id" in credential ? aws(credential) : { kind: "jwt", jwt: secret(credential, "jwt") },
    };
}

function wanted(role: string, inputs: Inputs): string {
    if (inputs.role !== undefined && role !== inputs.role) throw odd(`the role \`${role}\``);
    return role;
}

function aws(credential: Json): Aws {
    const assumedRoleArn = word(credential, "assumed_role_arn");
    const accountId = /^arn:aws[a-z-]*:sts::(\d{12}):/.exec(assumedRoleArn)?.[1];
    if (accountId === undefined) throw odd("no account in `assumed_role_arn`");
    return {
        kind: "aws",
        accessKeyId: secret(credential, "access_key_id", AWS_VALUE),
        secretAccessKey: secret(credential, "secret_access_key", AWS_VALUE),
        sessionToken: secret(credential, "session_token", AWS_VALUE),
        region: credential.region === undefined || credential.region === null ? undefined : name(credential, "region"),
        accountId,
        assumedRoleArn,
    };
}

/** Text for files and variables: printable, without blanks, so that it cannot become a second line or setting. */
function secret(body: Json, name: string, form = /^[\x21-\x7e]+$/): string {
    const value = body[name];
    if (typeof value === "string" && value.length >= SECRET_CHARS_MIN && form.test(value)) return value;
    throw odd(`no usable \`${name}\``);
}

function word(body: Json, name: string, form = /^[\x21-\x7e]{1,2048}$/): string {
    const value = body[name];
    if (typeof value === "string" && form.test(value)) return value;
    throw odd(`no usable \`${name}\``);
}

function name(body: Json, name: string): string {
    return word(body, name, NAME);
}

function seconds(body: Json): number {
    return body.expires_in === 0 ? 0 : positive(body, "expires_in", LIFE_SECONDS_MAX);
}

function positive(body: Json, name: string, max: number): number {
    const value = body[name];
    if (Number.isSafeInteger(value) && Number(value) > 0 && Number(value) <= max) return Number(value);
    throw odd(`no usable \`${name}\``);
}

function odd(what: string): Failure {
    return new Failure("answer_invalid", `The broker's answer is not to be used: it holds ${plain(what)}`);
}

function isObject(value: unknown): value is Json {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

// What this job can find out by itself where the broker may not say why: a broker that does not know a token answers
// strangers with one constant text. Nothing here decides anything.

import { Failure } from "./failure.ts";
import { html, plain, table } from "./text.ts";

type Json = Record<string, unknown>;
type Environment = Record<string, string | undefined>;

/** What a job's own log may hold of its token, and what operators need to find the mistake. */
const SHOWN = [
    "iss",
    "aud",
    "repository",
    "repository_id",
    "repository_owner_id",
    "event_name",
    "ref",
    "environment",
    "job_workflow_ref",
    "sub",
];
/** Clocks that are this near count as equal: answers take their time. */
const SKEW_SECONDS_MAX = 60;

/** The claims of a token of this job, unverified. */
export function claimsOf(token: string): Json {
    try {
        const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
        return typeof claims === "object" && claims !== null ? (claims as Json) : {};
    } catch {
        return {};
    }
}

/** Where this runner's clock is wrong enough for AWS to refuse what it signs; `brokerSeconds` is the broker's. */
export function skewed(nowMs: number, brokerSeconds: number | undefined): string | undefined {
    if (brokerSeconds === undefined) return undefined;
    const off = Math.round(nowMs / 1000 - brokerSeconds);
    if (Math.abs(off) <= SKEW_SECONDS_MAX) return undefined;
    const side = off > 0 ? "ahead of" : "behind";
    const text = `This runner's clock is ${Math.abs(off)} s ${side} the broker's`;
    return `${text}. AWS refuses what is signed more than 5 minutes off, and times here are wrong by as much. Set the clock (NTP)`;
}

/** The refusal of a token that the broker does not know, with what the token says of itself. */
export function explained(
    failure: Failure,
    claims: Json,
    env: Environment,
    brokerSeconds: number | undefined,
): Failure {
    if (failure.reason !== "token_not_accepted" || Object.keys(claims).length === 0) return failure;
    const rows = SHOWN.map((name) => [name, claims[name] === undefined ? "MISSING" : plain(claims[name])]);
    const found = [foreign(claims, env), early(claims, brokerSeconds)].filter((text) => text !== undefined);
    const lines = rows.map(([name, value]) => `  ${name}: ${value}`);
    const text = [failure.message, ...found, "What the token of this job says:", ...lines].join("\n");
    const details = `${failure.details}<details><summary>Claims of this job's token</summary>${table(rows)}</details>`;
    const said = found.map((line) => `<p>${html(line)}</p>`).join("");
    return new Failure(failure.reason, text, { decisionId: failure.decisionId, details: said + details });
}

/** Tokens of GitHub Enterprise come from an issuer of their own, which the broker must be told of. */
function foreign(claims: Json, env: Environment): string | undefined {
    const issuer = typeof claims.iss === "string" ? claims.iss : "";
    if (issuer === "https://token.actions.githubusercontent.com" || issuer === "") return undefined;
    const where =
        env.GITHUB_SERVER_URL && env.GITHUB_SERVER_URL !== "https://github.com" ? env.GITHUB_SERVER_URL : "GitHub";
    return (
        `The tokens of ${plain(where)} come from the issuer \`${plain(issuer)}\`. The broker needs an issuer with exactly ` +
        "this `url` in its `policy.toml`, and must reach it (or hold its keys as a file)"
    );
}

function early(claims: Json, brokerSeconds: number | undefined): string | undefined {
    if (brokerSeconds === undefined || typeof claims.iat !== "number") return undefined;
    const off = Math.round(claims.iat - brokerSeconds);
    if (Math.abs(off) <= SKEW_SECONDS_MAX) return undefined;
    const side = off > 0 ? "ahead of" : "behind";
    return `The clock of the token's issuer is ${Math.abs(off)} s ${side} the broker's. One of the two is wrong: set it (NTP)`;
}

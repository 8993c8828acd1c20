// What people read: a refusal condition by condition, and the step's summary. Text from the broker is made plain first.

import type { Decision, Granted } from "./broker.ts";
import type { Pending } from "./ceremony.ts";
import { Failure } from "./failure.ts";
import type { Mode } from "./inputs.ts";
import { DECISION_ID } from "./retry.ts";
import type { Runner } from "./runner.ts";
import { html, member, paragraphs, plain, table, word } from "./text.ts";

type Json = Record<string, unknown>;

const LIST_MAX = 30;
/** A person's reason stands in it, of at most 500 characters. */
const DESCRIPTION_CHARS_MAX = 1_200;

/** The broker's refusal. It is final: the same job gets the same answer. */
export function refusal(body: Json, asked: string | undefined): Failure {
    const reason = word(body, "reason") || word(body, "error") || "refused";
    const decisionId = member(body, "decision_id", DECISION_ID);
    const description = plain(body.error_description, DESCRIPTION_CHARS_MAX);
    const nearest = object(body.nearest);
    const conditions = list(nearest?.conditions).map((condition) => describe(object(condition) ?? {}));
    const lines = [
        `The broker refused ${asked === undefined ? "this job" : `\`${plain(asked)}\``}: ${description}`,
        `Reason: ${reason}${decisionId ? `, decision ${decisionId}` : ""}`,
    ];
    if (nearest !== undefined) {
        lines.push(`Nearest mapping: \`${plain(nearest.mapping)}\` (role \`${plain(nearest.role)}\`)`);
        for (const { claim, expected, got } of conditions) {
            lines.push(`  ${claim}:${expected === undefined ? "" : ` expected ${expected},`} ${got}`);
        }
        lines.push(...list(nearest.remarks).map((remark) => `  ${plain(remark)}`));
    }
    const roles = list(body.roles).map((role) => plain(role));
    if (roles.length > 0) lines.push(`Roles of this job: \`${roles.join("`, `")}\``);
    if (body.did_you_mean !== undefined) lines.push(`Did you mean \`${plain(body.did_you_mean)}\`?`);
    if (body.contact !== undefined) lines.push(`Ask: ${plain(body.contact)}`);
    const rows = conditions.map(({ claim, expected, got }) => [claim, expected ?? "", got]);
    const claims = Object.entries(object(body.claims) ?? {}).slice(0, LIST_MAX);
    const details =
        (rows.length > 0
            ? `<p>Nearest mapping: <code>${html(nearest?.mapping)}</code></p>${table(rows, ["Claim", "Expected", "This job"])}`
            : "") +
        (claims.length > 0 ? `<details><summary>Claims of this job</summary>${table(claims)}</details>` : "");
    return new Failure(reason, lines.join("\n"), { decisionId, details });
}

function describe(condition: Json): { claim: string; expected: string | undefined; got: string } {
    let got = "what this job has is not known";
    if (condition.got === null) got = "this job has none";
    else if (condition.got !== undefined) got = `got \`${plain(condition.got)}\``;
    const expected = condition.expected === undefined ? undefined : plain(condition.expected);
    // `expected` is a phrase with its own backticks. The broker may name claims alone.
    if (expected === undefined && condition.got === undefined) got = "does not fit";
    return { claim: plain(condition.claim), expected, got };
}

/** The summary of a step that has its credential. */
export function grantedSummary(granted: Granted, mode: Mode): string {
    const { credential } = granted;
    const of = credential.kind === "aws" ? ["AWS", credential.assumedRoleArn] : ["JWT", ""];
    return summary("credential", [
        ["Role", granted.role],
        ["Mapping", granted.mapping],
        ["Kind", of.filter((text) => text !== "").join(", ")],
        ["Mode", mode === "agent" ? "agent, which renews it until the job ends" : mode],
        ["Ends", time(granted.expiresAtMs)],
        ["Lease", granted.leaseId],
        ["Decision", granted.decisionId],
    ]);
}

export function dryRunSummary(decision: Decision): string {
    return summary(`dry run, would be granted${decision.pending ? " once somebody claims it" : ""}`, [
        ["Role", decision.role],
        ["Mapping", decision.mapping],
        ["For", `${decision.expiresInSeconds} s`],
        ["Decision", decision.decisionId],
    ]);
}

/** What an approver needs, for the summary of a step that does not wait. */
export function pendingSummary(pending: Pending): string {
    return table([
        ["Link", pending.claimUri],
        ["Code", pending.matchCode],
        ["Words on the page", pending.words],
        ["Decision", pending.decisionId],
    ]);
}

export function failureSummary(failure: Failure, title: string): string {
    return `<h3>Claimbound: ${html(title)}</h3>${paragraphs(failure.message)}${failure.details}\n`;
}

/** Writes the step's summary, if the input of that name wants this one. */
export async function summarize(runner: Runner, text: string, failed: boolean): Promise<void> {
    const wanted = runner.input("summary");
    if (wanted === "never" || (wanted === "failure" && !failed)) return;
    await runner.summary(text);
}

/** RFC 3339, to the second. */
export function time(ms: number): string {
    return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

function summary(title: string, rows: string[][]): string {
    return `<h3>Claimbound: ${html(title)}</h3>${table(rows)}\n`;
}

function object(value: unknown): Json | undefined {
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function list(value: unknown): unknown[] {
    return Array.isArray(value) ? value.slice(0, LIST_MAX) : [];
}

// How a credential reaches the next steps, and how every trace of it goes away again. What will be undone is written
// down before it is done.

import { createHash } from "node:crypto";
import type { Aws, Granted } from "./broker.ts";
import { Failure } from "./failure.ts";
import type { Inputs, Mode } from "./inputs.ts";
import { type Change, leaseOf, type Notes, temporaryFolder, writePrivately } from "./notes.ts";
import { time } from "./report.ts";
import { contenders, winners } from "./rivals.ts";
import type { Runner } from "./runner.ts";

/** Variables whose value must not be seen, also where another step set it. */
const SECRET_VARIABLES = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "CLAIMBOUND_JWT"];
/** Keys with less left are not given out by the agent, so one that never has much more is none for it. */
export const LEFT_SECONDS_MIN = 120;

/** What can be known before a token is spent. */
export function precheck(inputs: Inputs, runner: Runner): void {
    if (inputs.dryRun) return;
    temporaryFolder(runner.env);
    if (inputs.mode !== undefined) unrivalled(inputs.mode, runner);
}

/** How it is delivered where the inputs leave that open: by what may outlive it, and what no later step gets unasked. */
export function modeOf(granted: Granted, inputs: Inputs): Mode {
    return inputs.mode ?? (granted.credential.kind === "aws" ? "agent" : "file");
}

/** Whether this credential may be delivered as the inputs say. Throws if not. */
export function admit(granted: Granted, inputs: Inputs, runner: Runner): void {
    const { credential } = granted;
    const mode = modeOf(granted, inputs);
    if (credential.kind === "jwt") {
        if (inputs.allowedAccountIds.length > 0) {
            const text = `\`allowed-account-ids\` is about AWS, and the role \`${granted.role}\` gives a JWT`;
            throw new Failure("account_not_allowed", text);
        }
        if (mode === "profile" || mode === "agent") {
            const text = `The role \`${granted.role}\` gives a JWT, which no ${mode} carries`;
            throw new Failure("mode_unfit", `${text}. Use \`mode: file\`, \`env\` or \`output\``);
        }
        return;
    }
    if (mode === "output") {
        const text = `The role \`${granted.role}\` gives an AWS credential, which this action does not put into outputs`;
        throw new Failure("mode_unfit", `${text}. Use \`mode: agent\`, \`profile\`, \`file\` or \`env\``);
    }
    unexpected(granted, inputs.allowedAccountIds);
    if (mode === "agent" && granted.expiresInSeconds < 2 * LEFT_SECONDS_MIN) {
        const text = `The credential lives for ${granted.expiresInSeconds} s, which is too short to be renewed in time`;
        throw new Failure("mode_unfit", `${text}. Use \`mode: profile\` or \`mode: env\`, or a longer \`duration\``);
    }
    // Without a mode this could not be asked before: a JWT has no rivals.
    if (inputs.mode === undefined) unrivalled(mode, runner);
}

/** Throws if the credential belongs to an account that nobody expects. */
export function unexpected(granted: Granted, allowed: string[]): void {
    const { credential } = granted;
    if (credential.kind !== "aws" || allowed.length === 0 || allowed.includes(credential.accountId)) return;
    const text = `The credential belongs to AWS account ${credential.accountId}`;
    throw new Failure("account_not_allowed", `${text}; \`allowed-account-ids\` has ${allowed.join(", ")}`);
}

/** Gives the credential to the next steps. Says how. */
export async function deliver(granted: Granted, inputs: Inputs, notes: Notes, runner: Runner): Promise<Mode> {
    const { credential } = granted;
    const mode = modeOf(granted, inputs);
    switch (mode) {
        case "output":
            runner.output("token", (credential as { jwt: string }).jwt);
            break;
        case "file": {
            const file = notes.path("credential");
            writePrivately(file, credential.kind === "jwt" ? credential.jwt : processJson(granted, credential));
            change([["CLAIMBOUND_CREDENTIAL_FILE", file]], notes, runner);
            runner.output("file", file);
            break;
        }
        case "env":
            warnOfContenders(runner);
            change(credential.kind === "jwt" ? [["CLAIMBOUND_JWT", credential.jwt]] : keys(credential), notes, runner);
            break;
        case "profile": {
            const file = notes.path("credentials");
            const profile = /^[\w.@-]+$/.test(granted.role) ? granted.role : "claimbound";
            writePrivately(file, profileText(profile, credential as Aws));
            const variables: [string, string][] = [
                ["AWS_SHARED_CREDENTIALS_FILE", file],
                ["AWS_PROFILE", profile],
            ];
            change([...variables, ...region(credential as Aws)], notes, runner);
            runner.output("file", file);
            break;
        }
        case "agent": {
            const { agent, tokenFile } = await runner.startAgent(granted, inputs, notes);
            notes.note({ agent });
            const variables: [string, string][] = [
                ["AWS_CONTAINER_CREDENTIALS_FULL_URI", `${agent.url}/credentials`],
                ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", tokenFile],
            ];
            change([...variables, ...region(credential as Aws)], notes, runner);
            break;
        }
    }
    return mode;
}

/** Puts variables back to what they were, as far as nobody else has changed them since. */
export function undo(changes: Change[], runner: Runner): void {
    for (const { name, before, digest } of changes) {
        if (hash(runner.env[name] ?? "") !== digest) continue;
        if (before && SECRET_VARIABLES.includes(name)) runner.mask(before);
        // The runner cannot unset a variable; an empty one is what AWS clients take for none.
        runner.variable(name, before ?? "");
    }
}

/** Writes down what the credential is before it is delivered. */
export function remember(granted: Granted, notes: Notes): void {
    notes.note({ leases: [leaseOf(granted)] });
}

function unrivalled(mode: Mode, runner: Runner): void {
    const found = winners(mode, runner.env);
    if (found.length === 0) return;
    const what = mode === "agent" ? "to an agent" : "to a profile";
    const other = mode === "agent" && !found.some((name) => name.startsWith("AWS_")) ? "`profile` or `env`" : "`env`";
    const text = `This job has another AWS credential (\`${found.join("`, `")}\`), and AWS clients prefer it ${what}`;
    throw new Failure("mode_unfit", `${text}. Use \`mode:\` ${other}, or do not have it in this job`);
}

function warnOfContenders(runner: Runner): void {
    const found = contenders("env", runner.env);
    if (found.length === 0) return;
    runner.warn(
        `\`${found.join("`, `")}\` is set in this job; some AWS clients prefer it to the variables that this step sets. ` +
            "Use `mode: profile`, or unset it for the steps that use this credential",
        "claimbound: two AWS credentials",
    );
}

/** Sets variables, after what they hold now is written down for the post step. */
function change(variables: [string, string][], notes: Notes, runner: Runner): void {
    const changes = variables.map(([name, value]) => {
        const before = runner.env[name] ?? null;
        if (before && SECRET_VARIABLES.includes(name)) runner.mask(before);
        return { name, before, digest: hash(value) };
    });
    notes.note({ changes });
    for (const [name, value] of variables) runner.variable(name, value);
}

function keys(aws: Aws): [string, string][] {
    return [
        ["AWS_ACCESS_KEY_ID", aws.accessKeyId],
        ["AWS_SECRET_ACCESS_KEY", aws.secretAccessKey],
        ["AWS_SESSION_TOKEN", aws.sessionToken],
        ...region(aws),
    ];
}

function region(aws: Aws): [string, string][] {
    if (aws.region === undefined) return [];
    return [
        ["AWS_REGION", aws.region],
        ["AWS_DEFAULT_REGION", aws.region],
    ];
}

function profileText(profile: string, aws: Aws): string {
    return (
        `[${profile}]\naws_access_key_id = ${aws.accessKeyId}\n` +
        `aws_secret_access_key = ${aws.secretAccessKey}\naws_session_token = ${aws.sessionToken}\n`
    );
}

/** What the process protocol of AWS clients prints: https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html */
function processJson(granted: Granted, aws: Aws): string {
    return JSON.stringify({
        Version: 1,
        AccessKeyId: aws.accessKeyId,
        SecretAccessKey: aws.secretAccessKey,
        SessionToken: aws.sessionToken,
        Expiration: time(granted.expiresAtMs),
        AccountId: aws.accountId,
    });
}

function hash(value: string): string {
    return createHash("sha256").update(value).digest("hex");
}

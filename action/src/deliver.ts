// How a credential reaches the next steps, and how every trace of it goes away again. What will be undone is saved
// before it is done.

import { createHash } from "node:crypto";
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, sep } from "node:path";
import type { Aws, Granted } from "./broker.ts";
import { Failure } from "./failure.ts";
import type { Inputs } from "./inputs.ts";
import type { Runner } from "./runner.ts";

/** A variable that was set: what it held before (`null`: nothing), and the hash of what it was given. */
interface Change {
    name: string;
    before: string | null;
    digest: string;
}
interface Trace {
    changes: Change[];
    directory: string | null;
}

const FOLDER_PREFIX = "claimbound-";
const TRACE = "trace";
/** Variables whose value must not be seen, also where another step set it. */
const SECRET_VARIABLES = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/** What can be known before a token is spent. */
export function precheck(inputs: Inputs, runner: Runner): void {
    if (inputs.mode === "profile" && !inputs.dryRun) {
        const rivals = SECRET_VARIABLES.filter((name) => (runner.env[name] ?? "") !== "");
        if (rivals.length > 0) {
            const text = `\`${rivals.join("`, `")}\` is set in this job, and AWS clients prefer it to a profile`;
            throw new Failure("mode_unfit", `${text}. Use \`mode: environment\`, or do not set it before this step`);
        }
        temporaryFolder(runner.env);
    }
}

/** Whether this credential may be delivered as the inputs say. Throws if not. */
export function admit(granted: Granted, inputs: Inputs): void {
    const { credential } = granted;
    if (credential.kind === "jwt" && inputs.mode !== "output") {
        const text = `The role \`${granted.role}\` gives a JWT, which no variable or profile carries`;
        throw new Failure("mode_unfit", `${text}. Set \`mode: output\`: it is then the output \`token\`, masked`);
    }
    if (credential.kind === "jwt") return;
    if (inputs.mode === "output") {
        const text = `The role \`${granted.role}\` gives an AWS credential, which this action does not put into outputs`;
        throw new Failure("mode_unfit", `${text}. Use \`mode: environment\` or \`mode: profile\``);
    }
    const allowed = inputs.allowedAccountIds;
    if (allowed.length > 0 && !allowed.includes(credential.accountId)) {
        const text = `The credential belongs to AWS account ${credential.accountId}`;
        throw new Failure("account_not_allowed", `${text}; \`allowed-account-ids\` has ${allowed.join(", ")}`);
    }
}

/** Gives the credential to the next steps. */
export function deliver(granted: Granted, inputs: Inputs, runner: Runner): void {
    const { credential } = granted;
    if (credential.kind === "jwt") {
        runner.output("token", credential.jwt);
        return;
    }
    const region: [string, string][] =
        credential.region === undefined
            ? []
            : [
                  ["AWS_REGION", credential.region],
                  ["AWS_DEFAULT_REGION", credential.region],
              ];
    if (inputs.mode === "profile") {
        const directory = mkdtempSync(join(temporaryFolder(runner.env), FOLDER_PREFIX));
        const file = join(directory, "credentials");
        const profile = /^[\w.@-]+$/.test(granted.role) ? granted.role : "claimbound";
        const variables: [string, string][] = [
            ["AWS_SHARED_CREDENTIALS_FILE", file],
            ["AWS_PROFILE", profile],
            ...region,
        ];
        remember(variables, directory, runner);
        writeFileSync(file, profileText(profile, credential), { flag: "wx", mode: 0o600 });
        for (const [name, value] of variables) runner.variable(name, value);
        return;
    }
    const variables: [string, string][] = [
        ["AWS_ACCESS_KEY_ID", credential.accessKeyId],
        ["AWS_SECRET_ACCESS_KEY", credential.secretAccessKey],
        ["AWS_SESSION_TOKEN", credential.sessionToken],
        ...region,
    ];
    if ((runner.env.AWS_PROFILE ?? "") !== "") {
        runner.warn(
            "`AWS_PROFILE` is set in this job; some AWS clients prefer it to the variables that this step sets. Use " +
                "`mode: profile`, or unset it for the steps that use this credential",
            "claimbound: two AWS credentials",
        );
    }
    remember(variables, null, runner);
    for (const [name, value] of variables) runner.variable(name, value);
}

/** Undoes what `deliver` did, as far as nobody else has changed it since. */
export function undo(runner: Runner): void {
    const saved = runner.saved(TRACE);
    if (saved === "") return;
    const { changes, directory } = JSON.parse(saved) as Trace;
    try {
        if (directory !== null && basename(directory).startsWith(FOLDER_PREFIX)) {
            rmSync(directory, { recursive: true, force: true });
        }
    } finally {
        for (const { name, before, digest } of changes) {
            if (hash(runner.env[name] ?? "") !== digest) continue;
            if (before && SECRET_VARIABLES.includes(name)) runner.mask(before);
            // The runner cannot unset a variable; an empty one is what AWS clients take for none.
            runner.variable(name, before ?? "");
        }
    }
}

/** Saves what the variables hold now, for the post step. */
function remember(variables: [string, string][], directory: string | null, runner: Runner): void {
    const changes = variables.map(([name, value]) => ({
        name,
        before: runner.env[name] ?? null,
        digest: hash(value),
    }));
    for (const { name, before } of changes) {
        if (before !== null && before !== "" && SECRET_VARIABLES.includes(name)) runner.mask(before);
    }
    const trace: Trace = { changes, directory };
    runner.save(TRACE, JSON.stringify(trace));
}

function profileText(profile: string, credential: Aws): string {
    return (
        `[${profile}]\naws_access_key_id = ${credential.accessKeyId}\n` +
        `aws_secret_access_key = ${credential.secretAccessKey}\naws_session_token = ${credential.sessionToken}\n`
    );
}

/** The job's own temporary folder, which is outside the workspace: what stands there is neither committed nor uploaded. */
function temporaryFolder(env: Runner["env"]): string {
    const folder = real(env.RUNNER_TEMP);
    if (folder === undefined) {
        throw new Failure("mode_unfit", "`mode: profile` needs the runner's `RUNNER_TEMP`, which is no folder here");
    }
    const workspace = real(env.GITHUB_WORKSPACE);
    if (workspace !== undefined && `${folder}${sep}`.startsWith(`${workspace}${sep}`)) {
        const text = "`RUNNER_TEMP` is inside the workspace, where files get committed and uploaded";
        throw new Failure("mode_unfit", `${text}. Configure the runner, or use \`mode: environment\``);
    }
    return folder;
}

function real(path: string | undefined): string | undefined {
    try {
        return path ? realpathSync(path) : undefined;
    } catch {
        return undefined;
    }
}

function hash(value: string): string {
    return createHash("sha256").update(value).digest("hex");
}

// The inputs of `action.yml`, read strictly and all at once: a workflow's author sees every mistake in one run.

import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { Failure } from "./failure.ts";

export const MODES = ["agent", "env", "file", "output", "profile"] as const;
export type Mode = (typeof MODES)[number];

export interface Inputs {
    /** Where requests go; no slash at its end. */
    brokerUrl: string;
    /** What the CI token is asked for: computed here, never taken from an answer. */
    audience: string;
    /** Authorities that are trusted beside the system's, PEM; empty for none. */
    ca: string;
    /** A file with the token of who acts on the job's behalf; read anew for every exchange. */
    actorTokenFile: string | undefined;
    role: string | undefined;
    durationSeconds: number | undefined;
    mode: Mode | undefined;
    onUnavailable: "fail" | "skip";
    /** What to do where a person must claim the role first. */
    onPending: "wait" | "stop";
    dryRun: boolean;
    allowedAccountIds: string[];
    timeoutSeconds: number;
    /** How long the job may take, if the workflow says. */
    jobTimeoutSeconds: number | undefined;
}

export const INPUT_NAMES = [
    "broker-url",
    "role",
    "audience",
    "duration",
    "mode",
    "on-unavailable",
    "on-pending",
    "dry-run",
    "allowed-account-ids",
    "timeout",
    "job-timeout",
    "actor-token-file",
    "ca-file",
    "summary",
] as const;
type Name = (typeof INPUT_NAMES)[number];

const TIMEOUT_SECONDS_MAX = 600;
/** The longest that GitHub lets any job run. */
const JOB_TIMEOUT_SECONDS_MAX = 5 * 86_400;
const CA_CHARS_MAX = 1024 * 1024;
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** Throws one `Failure` that names every input that does not hold. */
export function readInputs(get: (name: Name) => string, folder = process.cwd()): Inputs {
    const problems: string[] = [];
    const url = (name: Name): string => {
        const problem = wrongUrl(get(name));
        if (problem !== undefined) problems.push(`\`${name}\` ${problem}`);
        return get(name);
    };
    const oneOf = <T extends string>(name: Name, values: readonly T[]): T | undefined => {
        const value = values.find((known) => known === get(name));
        if (value === undefined && get(name) !== "") {
            problems.push(`\`${name}\` is \`${get(name)}\`; it is one of \`${values.join("`, `")}\``);
        }
        return value;
    };
    const duration = (name: Name): number | undefined => {
        if (get(name) === "") return undefined;
        const seconds = durationSeconds(get(name));
        if (seconds === undefined) {
            problems.push(`\`${name}\` is \`${get(name)}\`; write a number and one of s, m, h, d, for example \`30m\``);
        }
        return seconds;
    };

    const brokerUrl = url("broker-url");
    const audience = get("audience") === "" ? brokerUrl : url("audience");
    const timeoutSeconds = duration("timeout") ?? 60;
    if (timeoutSeconds > TIMEOUT_SECONDS_MAX) problems.push("`timeout` is at most `10m`");
    const jobTimeoutSeconds = duration("job-timeout");
    if (jobTimeoutSeconds !== undefined && jobTimeoutSeconds > JOB_TIMEOUT_SECONDS_MAX) {
        problems.push("`job-timeout` is at most `5d`");
    }
    const path = (name: Name) => (isAbsolute(get(name)) ? get(name) : join(folder, get(name)));
    let ca = "";
    if (get("ca-file") !== "") {
        try {
            ca = certificates(path("ca-file"));
        } catch {
            problems.push(`\`ca-file\` is \`${get("ca-file")}\`, which is no file of certificates (PEM)`);
        }
    }
    // Written by `summarize`, also where the inputs do not hold.
    oneOf("summary", ["always", "failure", "never"]);
    const allowedAccountIds = get("allowed-account-ids")
        .split(/[\s,]+/)
        .filter((id) => id !== "");
    for (const id of allowedAccountIds) {
        if (!/^\d{12}$/.test(id))
            problems.push(`\`allowed-account-ids\` has \`${id}\`; an AWS account id has 12 digits`);
    }
    const inputs: Inputs = {
        brokerUrl,
        audience,
        ca,
        actorTokenFile: get("actor-token-file") === "" ? undefined : path("actor-token-file"),
        role: get("role") || undefined,
        durationSeconds: duration("duration"),
        mode: oneOf("mode", MODES),
        onUnavailable: oneOf("on-unavailable", ["fail", "skip"]) ?? "fail",
        onPending: oneOf("on-pending", ["wait", "stop"]) ?? "wait",
        dryRun: oneOf("dry-run", ["true", "false"]) === "true",
        allowedAccountIds,
        timeoutSeconds,
        jobTimeoutSeconds,
    };
    if (inputs.mode === "output" && allowedAccountIds.length > 0) {
        problems.push("`allowed-account-ids` is about AWS, and `mode: output` about a JWT; leave one out");
    }
    if (problems.length > 0) throw new Failure("input_invalid", problems.join("\n"));
    return inputs;
}

/** Throws what it likes if the file is none, or holds anything else. */
function certificates(path: string): string {
    const found = readFileSync(path, "utf8")
        .slice(0, CA_CHARS_MAX)
        .match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
    if (found === null) throw new Error("none");
    for (const pem of found) new X509Certificate(pem);
    return found.join("\n");
}

/** As in the mapping folder: an integer and its unit. */
function durationSeconds(text: string): number | undefined {
    const match = /^([1-9]\d{0,6})([smhd])$/.exec(text);
    return match ? Number(match[1]) * SECONDS[match[2] as keyof typeof SECONDS] : undefined;
}

function wrongUrl(text: string): string | undefined {
    if (text === "") return "is empty; it is the broker's `public_url`, for example from `vars.CLAIMBOUND_URL`";
    if (!URL.canParse(text)) return `is \`${text}\`, which is no URL`;
    const url = new URL(text);
    if (url.username !== "" || url.password !== "" || /[?#]/.test(text)) {
        return "is a plain URL: without user, query and fragment";
    }
    if (text.endsWith("/")) return "ends in a slash; write the broker's `public_url` exactly, without it";
    if (url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname))) return undefined;
    return "must begin with `https://` (`http://` on loopback only): tokens travel to it";
}

function isLoopback(host: string): boolean {
    return host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

// A runner that keeps what it was told, a pace without time, and a network that answers from a script.

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Granted } from "../src/broker.ts";
import type { Ask, Reply, Send } from "../src/http.ts";
import type { Agent } from "../src/notes.ts";
import type { Pace } from "../src/retry.ts";
import type { Runner } from "../src/runner.ts";

export const BROKER = "https://claimbound.example.com";
export const TOKEN_URL = "https://pipelines.example/token?api-version=2.0";
export const NOW_MS = Date.parse("2026-11-22T10:00:00Z");

const EMPTY = mkdtempSync(join(tmpdir(), "home-"));
/** Where agents of the bench are, and what lets the post step stop them. */
export const AGENT = { url: "http://127.0.0.1:4711", control: "control-of-the-agent" };

export type Told = { how: string; name: string; value: string };

export class FakeRunner implements Runner {
    readonly told: Told[] = [];
    env: Record<string, string | undefined>;
    inputs: Record<string, string>;

    constructor(inputs: Record<string, string> = {}, env: Record<string, string> = {}) {
        this.inputs = {
            "broker-url": BROKER,
            "on-unavailable": "fail",
            "on-pending": "wait",
            "dry-run": "false",
            timeout: "60s",
            ...inputs,
        };
        this.env = {
            ACTIONS_ID_TOKEN_REQUEST_URL: TOKEN_URL,
            ACTIONS_ID_TOKEN_REQUEST_TOKEN: "request-token-of-the-bench",
            // Nothing of this machine: a home without profiles.
            HOME: EMPTY,
            RUNNER_TEMP: mkdtempSync(join(tmpdir(), "job-")),
            ...env,
        };
    }
    private tell(how: string, name: string, value: string): void {
        this.told.push({ how, name, value });
    }
    input(name: string): string {
        return this.inputs[name] ?? "";
    }
    mask(secret: string): void {
        this.tell("mask", "", secret);
    }
    output(name: string, value: string): void {
        this.tell("output", name, value);
    }
    variable(name: string, value: string): void {
        this.tell("variable", name, value);
        this.env[name] = value;
    }
    save(name: string, value: string): void {
        this.tell("save", name, value);
    }
    saved(name: string): string {
        return this.last("save", name) ?? "";
    }
    info(text: string): void {
        this.tell("info", "", text);
    }
    warn(text: string, title: string): void {
        this.tell("warn", title, text);
    }
    fail(text: string, title: string): void {
        this.tell("fail", title, text);
    }
    async summary(html: string): Promise<void> {
        this.tell("summary", "", html);
    }
    async startAgent(granted: Granted): Promise<{ agent: Agent; tokenFile: string }> {
        this.tell("agent", "", granted.leaseId);
        return { agent: AGENT, tokenFile: "/the/token-file" };
    }

    last(how: string, name: string): string | undefined {
        return this.told.findLast((told) => told.how === how && told.name === name)?.value;
    }
    all(how: string): string[] {
        return this.told.filter((told) => told.how === how).map((told) => told.value);
    }
    /** What was told before this was masked, or in the open at any time. */
    leaks(secret: string): Told[] {
        const masked = this.told.findIndex((told) => told.how === "mask" && told.value === secret);
        const open = ["info", "warn", "fail", "summary"];
        return this.told.filter(
            (told, at) =>
                told.value.includes(secret) &&
                told.how !== "mask" &&
                (masked < 0 || at < masked || open.includes(told.how)),
        );
    }
}

/** Time passes by sleeping alone. */
export class FakePace implements Pace {
    ms = NOW_MS;
    readonly slept: number[] = [];
    nowMs(): number {
        return this.ms;
    }
    async sleep(ms: number): Promise<void> {
        this.slept.push(ms);
        this.ms += ms;
    }
    random(): number {
        return 0.5;
    }
}

export type Answer = Reply | Error | ((ask: Ask) => Reply);

/** Answers by the end of the path; the last answer of a list stays. */
export class Network {
    readonly asked: Ask[] = [];
    private readonly script: Record<string, Answer[]>;
    private tokens = 0;

    constructor(script: Record<string, Answer | Answer[]> = {}) {
        const all: Record<string, Answer | Answer[]> = {
            "/.well-known/claimbound": reply(200, facts()),
            "pipelines.example/token": () => {
                this.tokens += 1;
                return reply(200, { value: ciToken(this.tokens) });
            },
            "/revoke": reply(200, {}),
            "127.0.0.1:4711/stop": reply(200, { leases: [] }),
            ...script,
        };
        this.script = Object.fromEntries(
            Object.entries(all).map(([path, said]) => [path, Array.isArray(said) ? [...said] : [said]]),
        );
    }
    readonly send: Send = async (ask) => {
        this.asked.push(ask);
        const { host, pathname } = new URL(ask.url);
        const path = Object.keys(this.script).find((known) => `${host}${pathname}`.endsWith(known));
        const answers = this.script[path ?? ""];
        if (answers === undefined) throw new Error(`nobody expected ${ask.url}`);
        const answer = answers.length > 1 ? answers.shift() : answers[0];
        if (answer instanceof Error) throw answer;
        return typeof answer === "function" ? answer(ask) : (answer as Reply);
    };
    to(path: string): Ask[] {
        return this.asked.filter((ask) => {
            const { host, pathname } = new URL(ask.url);
            return `${host}${pathname}`.endsWith(path);
        });
    }
}

export const EXCHANGE = "claimbound.example.com/token";

export function reply(status: number, body: unknown, retryAfterSeconds?: number): Reply {
    return { status, body, retryAfterSeconds };
}

export function facts(more: object = {}): object {
    return {
        audience: BROKER,
        issuer: BROKER,
        token_endpoint: `${BROKER}/token`,
        time: NOW_MS / 1000,
        version: "0.1.0",
        ...more,
    };
}

export function ciToken(number: number): string {
    return `eyJhbGciOiJSUzI1NiJ9.eyJudW1iZXIi.signature-of-ci-token-${number}`;
}

export const AWS = {
    access_key_id: "ASIACANARYCANARY1234",
    secret_access_key: "canary/secret+access/key=1234567890",
    session_token: "canary-session-token-canary-session-token",
};
export const HANDLE = "canary-lease-handle-0123456789";
export const JWT = "eyJhbGciOiJFUzI1NiJ9.eyJyb2xlIjoiY2FuYXJ5In0.canary-signature-of-jwt";

export function granted(credential: object, more: object = {}): object {
    return {
        access_token: "jwt" in credential ? JWT : HANDLE,
        token_type: "jwt" in credential ? "Bearer" : "N_A",
        expires_in: 900,
        credential,
        decision_id: "0192-decision",
        lease_id: "0192-lease",
        role: "payments-deploy.production",
        mapping: "payments-production",
        mappings_version: "5f3a",
        ...more,
    };
}

export function grantedAws(more: object = {}): object {
    return granted({
        kind: "aws",
        ...AWS,
        expiration: "2026-11-22T10:15:00Z",
        region: "eu-central-1",
        assumed_role_arn: "arn:aws:sts::111111111111:assumed-role/payments-deploy/1-0192",
        ...more,
    });
}

export const REFUSAL = {
    error: "invalid_target",
    error_description: "No mapping gives this role to this job; the nearest mapping is `payments-production`",
    reason: "no_mapping",
    decision_id: "0192-4ef05ed",
    nearest: {
        mapping: "payments-production",
        role: "payments-deploy.production",
        conditions: [
            { claim: "branch", expected: "`main`", got: "feature" },
            { claim: "environment", expected: "`production`", got: null },
            { claim: "ref_protected", expected: "`true`" },
            { claim: "workflow" },
        ],
        remarks: ["the branch was renamed"],
    },
    roles: ["payments-secrets"],
    did_you_mean: "payments-secrets",
    contact: "payments-oncall@acme.example",
    claims: { repository: "acme/payments-api", branch: "feature" },
};

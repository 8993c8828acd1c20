// The action as a runner starts it: a process for each step, with inputs in variables and files for what it says.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AWS, ciToken, grantedAws, HANDLE } from "./bench.ts";

const BEARER = "request-token-of-this-job";

/** The broker, GitHub's token service, and the machine of one job. */
class Machine {
    readonly home = mkdtempSync(join(tmpdir(), "machine-"));
    readonly asked: [string, URLSearchParams][] = [];
    /** What the broker says to a request for a credential, while the step that asks runs. */
    answer: (step: ChildProcess, url: string) => [number, object] = () => [200, grantedAws()];
    private readonly server: Server;
    private step: ChildProcess | undefined;

    constructor() {
        mkdirSync(join(this.home, "temp"));
        for (const name of ["output", "env", "state"]) writeFileSync(join(this.home, name), "");
        this.server = createServer((request, response) => {
            let body = "";
            request.on("data", (chunk) => (body += chunk));
            request.on("end", () => {
                const path = new URL(request.url ?? "", this.url).pathname;
                this.asked.push([path, new URLSearchParams(body)]);
                const [status, said] = this.says(path);
                response.writeHead(status).end(JSON.stringify(said));
            });
        }).listen(0, "127.0.0.1");
        this.server.unref();
    }
    get url(): string {
        return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
    }
    private says(path: string): [number, object] {
        const facts = { audience: this.url, issuer: this.url, token_endpoint: `${this.url}/token` };
        if (path === "/.well-known/claimbound") return [200, facts];
        if (path === "/ci") return [200, { value: ciToken(1) }];
        if (path === "/token" && this.step !== undefined) return this.answer(this.step, this.url);
        return [200, {}];
    }
    to(path: string): (string | null)[] {
        return this.asked.filter(([asked]) => asked === path).map(([, form]) => form.get("token"));
    }
    /** What stands last in a file of the runner under this name. */
    said(file: string, name: string): string | undefined {
        const text = readFileSync(join(this.home, file), "utf8");
        return [...text.matchAll(new RegExp(`^${name}<<(\\S+)\\n([^]*?)\\n\\1$`, "gm"))].at(-1)?.[2];
    }
    async run(program: "main" | "post", inputs: Record<string, string>): Promise<{ code: number | null; log: string }> {
        if (!this.server.listening) await new Promise((resolve) => this.server.once("listening", resolve));
        const given = { "broker-url": this.url, "on-unavailable": "fail", "on-pending": "wait", ...inputs };
        const variables = Object.entries(given).map(([name, value]) => [`INPUT_${name.toUpperCase()}`, value]);
        const file = (name: string) => join(this.home, name);
        const env = {
            ...Object.fromEntries(variables),
            HOME: this.home,
            RUNNER_TEMP: file("temp"),
            GITHUB_OUTPUT: file("output"),
            GITHUB_ENV: file("env"),
            GITHUB_STATE: file("state"),
            GITHUB_STEP_SUMMARY: file("no-such-file"),
            ACTIONS_ID_TOKEN_REQUEST_URL: `${this.url}/ci`,
            ACTIONS_ID_TOKEN_REQUEST_TOKEN: BEARER,
            STATE_notes: this.said("state", "notes") ?? "",
        };
        const step = spawn(process.execPath, [join(__dirname, `${program}.cjs`)], {
            env,
            stdio: ["ignore", "pipe", "pipe"],
        });
        this.step = step;
        let log = "";
        for (const stream of [step.stdout, step.stderr]) stream.on("data", (chunk: Buffer) => (log += chunk));
        return await new Promise((resolve) => step.once("close", (code) => resolve({ code, log })));
    }
}

const INPUTS = { role: "payments-deploy.production", mode: "env" };

test("every secret is masked before it can be seen, and a summary that cannot be written fails nothing", async () => {
    const machine = new Machine();
    const { code, log } = await machine.run("main", INPUTS);
    assert.equal(code, 0, log);
    assert.equal(machine.said("output", "available"), "true");
    assert.equal(machine.said("env", "AWS_SECRET_ACCESS_KEY"), AWS.secret_access_key);
    const lines = log.split("\n");
    for (const secret of [...Object.values(AWS), HANDLE, ciToken(1), BEARER]) {
        const shown = lines.filter((line) => line.includes(secret));
        assert.ok(shown.length > 0 && shown.every((line) => line.startsWith("::add-mask::")), secret);
    }
    const basic = Buffer.from(`u:${AWS.secret_access_key}`).toString("base64").slice(4, 40);
    assert.ok(
        lines.some((line) => line.startsWith("::add-mask::") && line.includes(basic)),
        "in Base64, too",
    );
});

test("a step that is cancelled in the middle of an exchange hears the answer, and the post step ends the lease", async () => {
    const machine = new Machine();
    machine.answer = (step) => {
        step.kill("SIGINT");
        return [200, grantedAws()];
    };
    const { code, log } = await machine.run("main", INPUTS);
    assert.equal(code, 0, log);
    const notes = machine.said("state", "notes") ?? "";
    assert.ok(existsSync(notes));
    const post = await machine.run("post", INPUTS);
    assert.equal(post.code, 0, post.log);
    assert.deepEqual([machine.to("/revoke"), existsSync(notes)], [[HANDLE], false]);
});

test("a step that is cancelled asks for nothing more", async () => {
    const machine = new Machine();
    machine.answer = (step) => {
        step.kill("SIGTERM");
        return [503, {}];
    };
    const { code, log } = await machine.run("main", INPUTS);
    assert.equal(code, 1, log);
    assert.deepEqual([machine.to("/token").length, machine.said("output", "reason")], [1, "cancelled"]);
    const post = await machine.run("post", INPUTS);
    assert.deepEqual([post.code, machine.to("/revoke")], [0, []], post.log);
});

test("texts of others are no commands of the runner", async () => {
    const machine = new Machine();
    machine.answer = (_, url) => [
        400,
        {
            error: "authorization_pending",
            decision_id: "0192-ab",
            auth_req_id: "request-of-this-job",
            claim_uri: `${url}/claim/1`,
            match_code: "BCDF-GHJK",
            match_words: "amber ##[add-mask]tulip\n::stop-commands::x",
            interval: 5,
            expires_in: 600,
        },
    ];
    const { code, log } = await machine.run("main", { ...INPUTS, "on-pending": "stop" });
    assert.equal(code, 1, log);
    assert.match(log, / {2}words: amber ## \[add-mask\]tulip ::stop-commands::x /);
    assert.doesNotMatch(log, /##\[|^\s*::(?!add-mask::|error )/m);
});

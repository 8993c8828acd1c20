// The agent as it is: a process of its own, a broker on loopback, and who asks.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer, request, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Keeper, type Line, renewAt } from "../src/agent/keeper.ts";
import { startAgent } from "../src/agent/order.ts";
import { renewed } from "../src/agent/renew.ts";
import type { Granted } from "../src/broker.ts";
import { Failure } from "../src/failure.ts";
import { readInputs } from "../src/inputs.ts";
import { Notes } from "../src/notes.ts";
import type { Pace } from "../src/retry.ts";
import {
    BROKER,
    ciToken,
    EXCHANGE,
    FakePace,
    FakeRunner,
    grantedAws,
    HANDLE,
    Network,
    NOW_MS,
    REFUSAL,
    reply,
} from "./bench.ts";

const HOUR = 3600;

function grant(n: number, nowMs: number, lifeSeconds: number): Granted {
    return {
        decisionId: `decision-${n}`,
        role: "r",
        mapping: "m",
        expiresInSeconds: lifeSeconds,
        pending: false,
        expiresAtMs: nowMs + lifeSeconds * 1000,
        handle: `handle-of-lease-${n}`,
        leaseId: `lease-${n}`,
        credential: {
            kind: "aws",
            accessKeyId: `ASIA${n}`,
            secretAccessKey: "secret-of-the-agent",
            sessionToken: "session-of-the-agent",
            region: undefined,
            accountId: "111111111111",
            assumedRoleArn: "arn:aws:sts::111111111111:assumed-role/r/s",
        },
    };
}

/** A keeper whose renewals come from this, counted. */
function keeping(lifeSeconds: number, obtain: (n: number, pace: FakePace, given: Pace) => Promise<Granted>) {
    const [pace, lines] = [new FakePace(), [] as Line[]];
    const seen = { rounds: 0 };
    const keeper = new Keeper(
        grant(0, NOW_MS, lifeSeconds),
        (given) => {
            seen.rounds += 1;
            return obtain(seen.rounds, pace, given);
        },
        pace,
        (line) => lines.push(line),
    );
    const key = async () => {
        const answer = await keeper.ask();
        return "failure" in answer ? answer.failure.reason : answer.aws.accessKeyId;
    };
    return { keeper, pace, lines, seen, key };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("it is renewed with 16 minutes or a third of its life left, whichever comes first, and short ones with a third", () => {
    const lives = [12 * HOUR, HOUR, 48 * 60, 45 * 60, 32 * 60, 31 * 60, 900];
    assert.deepEqual(lives.map(renewAt), [4 * HOUR, 1200, 960, 960, 960, 620, 300]);
});

test("askers get what is there at once, however many they are and however long a renewal takes", async () => {
    let finish = (_: Granted): void => {};
    const obtain = () => new Promise<Granted>((resolve) => (finish = resolve));
    const { pace, seen, key, lines } = keeping(HOUR, obtain);
    assert.equal(await key(), "ASIA0");
    assert.equal(seen.rounds, 0, "not before it is time");
    pace.ms += (HOUR - 1200) * 1000;
    const keys = await Promise.all(Array.from({ length: 100 }, key));
    assert.deepEqual([...new Set(keys)], ["ASIA0"], "nobody waits");
    assert.equal(seen.rounds, 1, "one renewal for all");
    finish(grant(1, pace.ms, HOUR));
    await settled();
    assert.equal(await key(), "ASIA1");
    assert.deepEqual([seen.rounds, lines.map(({ what }) => what)], [1, ["renewed"]]);
});

test("a nearly dead credential is not given: askers wait for the next one, and not longer than SDKs do", async () => {
    const quick = keeping(HOUR, async (n, pace) => grant(n, pace.ms, HOUR));
    quick.pace.ms += (HOUR - 119) * 1000;
    assert.equal(await quick.key(), "ASIA1");

    const never = keeping(HOUR, () => new Promise<Granted>(() => {}));
    never.pace.ms += (HOUR - 120) * 1000;
    assert.equal(await never.key(), "ASIA0", "two minutes are enough");
    never.pace.ms += 1000;
    assert.equal(await never.key(), "renewing");
    assert.deepEqual(never.pace.slept, [1500]);
});

test("a refusal ends the renewing: what is left is given, then the reason, and the log has it", async () => {
    const refusal = new Failure("no_mapping", "The broker refused", { decisionId: "0192-no", details: "<table>" });
    const { keeper, pace, seen, key, lines } = keeping(HOUR, () => Promise.reject(refusal));
    pace.ms += (HOUR - 600) * 1000;
    keeper.look();
    await settled();
    assert.equal(await key(), "ASIA0");
    pace.ms += 500 * 1000;
    assert.equal(await key(), "no_mapping");
    assert.equal(seen.rounds, 1, "a refusal is final");
    const { reason, decisionId, details, what } = lines[0] ?? ({} as Line);
    assert.deepEqual([what, reason, decisionId, details], ["refused", "no_mapping", "0192-no", "<table>"]);
});

test("while nobody answers it is tried again after a pause, and an error of its own is no end", async () => {
    const away = new Failure("broker_unreachable", "away", { unavailable: true });
    const failures: Error[] = [away, new TypeError("holds a secret")];
    const { keeper, pace, seen, key, lines } = keeping(HOUR, async (n, pace) => {
        const failure = failures.shift();
        if (failure) throw failure;
        return grant(n, pace.ms, HOUR);
    });
    pace.ms += (HOUR - 100) * 1000;
    assert.equal(await key(), "broker_unreachable");
    pace.ms += 29_000;
    keeper.look();
    assert.equal(seen.rounds, 1);
    pace.ms += 1_000;
    assert.equal(await key(), "agent_failed");
    pace.ms += 30_000;
    assert.equal(await key(), "ASIA3");
    assert.ok(!JSON.stringify(lines).includes("holds a secret"));
});

test("whoever stops it gets every lease that may be alive, also one that is just being opened", async () => {
    let finish = (_: Granted): void => {};
    const { keeper, pace, seen } = keeping(HOUR, () => new Promise<Granted>((resolve) => (finish = resolve)));
    pace.ms += (HOUR - 600) * 1000;
    keeper.look();
    const leases = keeper.leases();
    finish(grant(1, pace.ms, HOUR));
    assert.deepEqual(
        (await leases).map(({ leaseId }) => leaseId),
        ["lease-0", "lease-1"],
    );
    pace.ms += HOUR * 1000 - 1;
    keeper.look();
    assert.deepEqual([(await keeper.leases()).map(({ leaseId }) => leaseId), seen.rounds], [["lease-1"], 1]);
});

test("an outage at the end of the job is not waited for", async () => {
    const { keeper, pace, lines } = keeping(HOUR, async (_, __, given) => {
        for (;;) await given.sleep(500);
    });
    // Time stands still here: only the stop ends the waiting.
    pace.sleep = () => new Promise(() => {});
    pace.ms += (HOUR - 600) * 1000;
    keeper.look();
    const leases = await keeper.leases();
    assert.deepEqual([leases.length, lines], [1, []]);
});

test("a renewal asks as the first login did: a broker that is who it should be, and a token that nobody has seen", async () => {
    const inputs = readInputs(
        (name) => ({ "broker-url": BROKER, role: "payments-deploy.production" })[name as string] ?? "",
    );
    const source = { url: "https://pipelines.example/token", bearer: "b" };
    const round = (network: Network, more: object = {}) =>
        renewed({ inputs: { ...inputs, ...more }, source }, network.send, new FakePace());
    const network = new Network({ [EXCHANGE]: [reply(503, {}), reply(200, grantedAws())] });
    assert.equal((await round(network)).leaseId, "0192-lease");
    assert.deepEqual(
        network.to(EXCHANGE).map((ask) => ask.form?.get("subject_token")),
        [1, 2].map(ciToken),
    );
    const refused = new Network({ [EXCHANGE]: reply(400, REFUSAL) });
    await assert.rejects(round(refused), (failure: Failure) => failure.reason === "no_mapping" && !failure.unavailable);
    const impostor = new Network({ "/.well-known/claimbound": reply(200, { audience: "https://evil.example" }) });
    await assert.rejects(round(impostor), (failure: Failure) => failure.reason === "audience_mismatch");
    assert.equal(impostor.asked.length, 1, "it gets no token");

    const other = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    await assert.rejects(round(other, { allowedAccountIds: ["2".repeat(12)] }), /account 111111111111/);
    assert.equal(other.to("/revoke")[0]?.form?.get("token"), HANDLE);
    const person = {
        error: "authorization_pending",
        decision_id: "0192-p",
        auth_req_id: "request-of-the-agent",
        claim_uri: `${BROKER}/claim/x`,
        match_code: "C",
        interval: 5,
        expires_in: 600,
    };
    const asking = new Network({ [EXCHANGE]: reply(400, person) });
    await assert.rejects(round(asking), /A person must claim/);
    assert.equal(asking.to("/revoke")[0]?.form?.get("token"), "request-of-the-agent", "nobody needs to claim it");
});

interface Said {
    status: number;
    body: Record<string, unknown>;
}

function ask(url: string, headers: Record<string, string> = {}, method = "GET"): Promise<Said> {
    return new Promise((resolve, reject) => {
        const asked = request(url, { method, headers, agent: false }, (response: IncomingMessage) => {
            let text = "";
            response.on("data", (chunk) => (text += chunk));
            response.on("end", () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
        });
        asked.on("error", reject).end();
    });
}

/** A broker and GitHub's token service in one, and an agent started for them. */
async function started(lookMs?: number, lifeMs = 6 * HOUR * 1000) {
    const revoked: string[] = [];
    const server = createServer((incoming, response) => {
        let text = "";
        incoming.on("data", (chunk) => (text += chunk));
        incoming.on("end", () => {
            if (incoming.url === "/revoke") revoked.push(new URLSearchParams(text).get("token") ?? "");
            response.end("{}");
        });
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    // A test that fails leaves it open.
    server.unref();
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const runner = new FakeRunner({ "broker-url": url }, { RUNNER_TEMP: mkdtempSync(join(tmpdir(), "job-")) });
    const inputs = readInputs((name) => runner.input(name));
    const notes = Notes.open(runner, url, "");
    const agent = await startAgent(
        join(__dirname, "agent.cjs"),
        grant(0, Date.now(), HOUR),
        inputs,
        { url: `${url}/token`, bearer: "bearer-of-the-job" },
        notes,
        process.env,
        // It lives for six hours from when it believes to be started.
        Date.now() - 6 * HOUR * 1000 + lifeMs,
        lookMs,
    );
    const close = () => {
        server.closeAllConnections();
        server.close();
    };
    return { ...agent, notes, revoked, close };
}

async function until(what: () => boolean | Promise<boolean>): Promise<void> {
    for (let tries = 0; tries < 500; tries += 1) {
        if (await what()) return;
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error("it did not come to that");
}

const gone = (url: string) =>
    ask(url).then(
        () => false,
        () => true,
    );

test("who shows the token of the file gets the credential, and nobody else anything", async () => {
    const { agent, tokenFile, notes, revoked, close } = await started();
    const url = `${agent.url}/credentials`;
    const authorization = readFileSync(tokenFile, "utf8");
    assert.match(authorization, /^[0-9a-f]{64}$/, "a header of one line");
    const { status, body } = await ask(url, { authorization });
    assert.equal(status, 200);
    assert.deepEqual(
        [body.AccessKeyId, body.SecretAccessKey, body.Token, body.AccountId],
        ["ASIA0", "secret-of-the-agent", "session-of-the-agent", "111111111111"],
    );
    assert.match(String(body.Expiration), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    const cases: [string, Record<string, string>, string, number][] = [
        [url, {}, "GET", 401],
        [url, { authorization: `Bearer ${authorization}` }, "GET", 403],
        [url, { authorization: agent.control }, "GET", 403],
        [url, { authorization, host: "claimbound.evil.example" }, "GET", 403],
        [url, { authorization }, "POST", 405],
        [`${agent.url}/`, { authorization }, "GET", 404],
        [`${agent.url}/stop`, { authorization }, "POST", 403],
    ];
    for (const [url, headers, method, status] of cases) {
        const said = await ask(url, headers, method);
        assert.deepEqual([said.status, said.body.AccessKeyId, said.body.leases], [status, undefined, undefined]);
    }
    for (const name of readdirSync(notes.directory)) {
        assert.equal(statSync(notes.path(name)).mode & 0o777, 0o600, name);
        assert.ok(!readFileSync(notes.path(name), "utf8").includes("secret-of-the-agent"), `${name} holds the key`);
    }
    const stopped = await ask(`${agent.url}/stop`, { authorization: agent.control }, "POST");
    const leases = stopped.body.leases as { handle: string }[];
    assert.deepEqual(
        [leases.map(({ handle }) => handle), revoked],
        [["handle-of-lease-0"], []],
        "the post step ends them",
    );
    await until(() => gone(url));
    close();
});

test("a job whose files are gone, or that must be over, leaves no agent and no lease", async () => {
    for (const lifeMs of [undefined, 0]) {
        const { agent, tokenFile, revoked, close } = await started(20, lifeMs);
        if (lifeMs === undefined) rmSync(tokenFile);
        await until(() => gone(agent.url));
        assert.deepEqual(revoked, ["handle-of-lease-0"]);
        close();
    }
});

test("an agent that does not come up is told", async () => {
    const runner = new FakeRunner();
    const notes = Notes.open(runner, BROKER, "");
    const inputs = readInputs((name) => runner.input(name));
    const source = { url: "https://x.example", bearer: "b" };
    const start = startAgent("/nowhere/agent.cjs", grant(0, NOW_MS, HOUR), inputs, source, notes, {}, NOW_MS);
    await assert.rejects(start, (failure: Failure) => failure.reason === "agent_failed");
    assert.ok(existsSync(notes.directory), "the post step removes it");
});

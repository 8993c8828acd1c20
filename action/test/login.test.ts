import assert from "node:assert/strict";
import { test } from "node:test";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NoAnswer, Untrusted } from "../src/http.ts";
import { login } from "../src/login.ts";
import {
    AWS,
    BROKER,
    ciToken,
    EXCHANGE,
    FakePace,
    FakeRunner,
    facts,
    grantedAws,
    HANDLE,
    JWT,
    Network,
    NOW_MS,
    REFUSAL,
    reply,
} from "./bench.ts";

const ROLE = "payments-deploy.production";
const SECRETS = [...Object.values(AWS), HANDLE, JWT, ciToken(1)];

async function run(runner: FakeRunner, network: Network, pace = new FakePace()): Promise<void> {
    await login(runner, network.send, pace);
    for (const secret of SECRETS) assert.deepEqual(runner.leaks(secret), [], "masked before it is used, never shown");
}

async function failed(runner: FakeRunner, network: Network): Promise<string> {
    await run(runner, network);
    assert.equal(runner.last("output", "available"), "false");
    assert.deepEqual(runner.all("variable"), []);
    const [text] = runner.all("fail");
    assert.ok(text !== undefined, "the step fails");
    return text;
}

test("a refusal is one request, told whole, and never skipped", async () => {
    const runner = new FakeRunner({ role: ROLE, "on-unavailable": "skip" });
    const network = new Network({ [EXCHANGE]: reply(400, REFUSAL) });
    const text = await failed(runner, network);
    assert.match(text, /branch: expected `main`, got `feature`/);
    assert.equal(network.to(EXCHANGE).length, 1);
    assert.equal(runner.last("output", "reason"), "no_mapping");
    assert.equal(runner.last("output", "decision-id"), "0192-4ef05ed");
});

test("an outage that outlasts the deadline names the broker's decision", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const description = "The target does not answer";
    const body = { reason: "backend_down", decision_id: "0192abcd", error_description: description };
    const outage = reply(503, body, 3600);
    const network = new Network({ "/.well-known/claimbound": reply(200, facts()), [EXCHANGE]: outage });
    const text =
        /answered 503 \(`backend_down`, decision 0192abcd\): The target does not answer\. Given up after 1 try/;
    assert.match(await failed(runner, network), text);
    assert.equal(runner.last("output", "decision-id"), "0192abcd");
});

test("what may pass is tried again, each time with a fresh token", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const network = new Network({
        "/.well-known/claimbound": [new NoAnswer("the connection was refused"), reply(200, facts())],
        [EXCHANGE]: [
            reply(503, { reason: "store_down" }, 2),
            new NoAnswer("no answer within 30 s"),
            reply(429, {}),
            reply(200, grantedAws()),
        ],
    });
    const pace = new FakePace();
    await run(runner, network, pace);
    assert.deepEqual(
        network.to(EXCHANGE).map((ask) => ask.form?.get("subject_token")),
        [1, 2, 3, 4].map(ciToken),
    );
    assert.ok((pace.slept[1] ?? 0) >= 2000, "Retry-After is kept");
    assert.equal(runner.last("output", "available"), "true");
});

test("a broker that cannot be reached fails the job, or with `skip` does not", async () => {
    const script = { "/.well-known/claimbound": new NoAnswer("the connection was refused (ECONNREFUSED)") };
    const network = new Network(script);
    const runner = new FakeRunner();
    const text = await failed(runner, network);
    assert.match(
        text,
        /The broker at https:\/\/claimbound.example.com cannot be reached: .*ECONNREFUSED.*Given up after/,
    );
    assert.equal(runner.last("output", "reason"), "broker_unreachable");
    assert.equal(network.to("pipelines.example/token").length, 0, "no token was requested");

    const untrusted = new FakeRunner({ "on-unavailable": "skip" });
    const forged = new Network({ "/.well-known/claimbound": new Untrusted("its certificate has expired") });
    assert.match(await failed(untrusted, forged), /is not trusted: its certificate has expired$/);
    assert.deepEqual([forged.asked.length, untrusted.last("output", "reason")], [1, "certificate_untrusted"]);

    const skipping = new FakeRunner({ "on-unavailable": "skip" });
    await run(skipping, new Network(script));
    assert.deepEqual([skipping.all("fail"), skipping.all("warn").length], [[], 1]);
    assert.equal(skipping.last("output", "available"), "false");
});

test("a broker that says it is another one gets no token, whatever it is another of", async () => {
    const other = "https://other.example.com";
    for (const lie of [
        { audience: other },
        { issuer: other },
        { token_endpoint: `${other}/token` },
        { audience: `${BROKER}/` },
    ]) {
        const runner = new FakeRunner({ "on-unavailable": "skip" });
        const network = new Network({ "/.well-known/claimbound": reply(200, facts(lie)) });
        const text = await failed(runner, network);
        assert.match(text, /no token was requested/);
        assert.match(text, /expected https:\/\/claimbound\.example\.com.*, it says/);
        assert.equal(runner.last("output", "reason"), "audience_mismatch");
        assert.equal(network.asked.length, 1);
    }
});

test("another address of the same broker needs its name", async () => {
    const inside = "https://claimbound.internal";
    const runner = new FakeRunner({ "broker-url": inside, audience: BROKER });
    const network = new Network({ "claimbound.internal/token": reply(200, grantedAws()) });
    await run(runner, network);
    assert.equal(new URL(network.to("pipelines.example/token")[0]?.url ?? "").searchParams.get("audience"), BROKER);
    assert.equal(runner.last("output", "available"), "true");
});

test("redirects are not followed, and what is no broker's answer is not used", async () => {
    const cases: [Record<string, ReturnType<typeof reply>>, string][] = [
        [{ "/.well-known/claimbound": reply(302, undefined) }, "redirect"],
        [{ "/.well-known/claimbound": reply(404, undefined) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(307, undefined) }, "redirect"],
        [{ [EXCHANGE]: reply(404, "x") }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, "x") }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, { ...grantedAws(), role: "another-role" }) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, grantedAws({ session_token: `${AWS.session_token}\nx` })) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, { ...grantedAws(), expires_in: "soon" }) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, { ...grantedAws(), expires_in: 1e15 }) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, { ...grantedAws(), mapping: "$(id)" }) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, grantedAws({ secret_access_key: `${AWS.secret_access_key};x` })) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, grantedAws({ region: "eu west" })) }, "answer_invalid"],
        [{ [EXCHANGE]: reply(200, grantedAws({ assumed_role_arn: "x" })) }, "answer_invalid"],
        [{ "pipelines.example/token": reply(403, {}) }, "ci_refused"],
    ];
    for (const [script, reason] of cases) {
        const runner = new FakeRunner({ role: ROLE });
        const network = new Network(script);
        await failed(runner, network);
        assert.equal(runner.last("output", "reason"), reason, JSON.stringify(script));
        assert.ok(network.to(EXCHANGE).length <= 1);
    }
});

test("the lease behind an answer that is not to be used is ended, once, and the text says what came of it", async () => {
    const answers: [Record<string, string>, object][] = [
        [{}, { ...grantedAws(), role: "another-role" }],
        [{}, { ...grantedAws(), lease_id: "" }],
        [{}, grantedAws({ secret_access_key: "short" })],
        [{ "dry-run": "true" }, grantedAws()],
    ];
    const ends: [ReturnType<typeof reply> | Error, RegExp][] = [
        [reply(200, {}), /\. Its lease is ended at the broker$/],
        [reply(503, {}), /\. Its lease was not ended at the broker and runs out by itself\. .*answered 503$/],
        [new NoAnswer("no answer within 10 s"), /was not ended at the broker.*: no answer within 10 s$/],
    ];
    for (const [inputs, answer] of answers) {
        for (const [end, text] of ends) {
            const runner = new FakeRunner({ role: ROLE, ...inputs });
            const body = { ...answer, decision_id: "0192-ab" };
            const network = new Network({ [EXCHANGE]: reply(200, body), "/revoke": end });
            assert.match(await failed(runner, network), text);
            assert.equal(runner.last("output", "reason"), "answer_invalid");
            assert.equal(runner.last("output", "decision-id"), "0192-ab");
            const revoked = network.to("/revoke");
            assert.deepEqual([revoked.length, revoked[0]?.form?.get("token")], [1, HANDLE]);
            assert.ok((revoked[0]?.timeoutMs ?? Infinity) <= 10_000, "nobody waits long for it");
            assert.ok(runner.all("mask").includes(HANDLE));
        }
    }
    for (const handle of [undefined, 7, "", "x"]) {
        const network = new Network({ [EXCHANGE]: reply(200, { ...grantedAws(), access_token: handle }) });
        assert.match(await failed(new FakeRunner({ role: ROLE }), network), /no usable `access_token`$/);
        assert.equal(network.to("/revoke").length, 0);
    }
});

test("a fork's job, which has no variables, is told that it is one, and goes on where that is allowed", async () => {
    const event = join(mkdtempSync(join(tmpdir(), "event-")), "event.json");
    writeFileSync(event, JSON.stringify({ pull_request: { head: { repo: { full_name: "mallory/a" } } } }));
    const env = {
        ACTIONS_ID_TOKEN_REQUEST_URL: "",
        GITHUB_EVENT_NAME: "pull_request",
        GITHUB_EVENT_PATH: event,
        GITHUB_REPOSITORY: "acme/a",
    };
    const empty = { "broker-url": "", "on-unavailable": "skip" };
    const runner = new FakeRunner(empty, env);
    await run(runner, new Network());
    assert.deepEqual([runner.all("fail"), runner.last("output", "reason")], [[], "fork_pull_request"]);
    const own = new FakeRunner(empty);
    assert.match(await failed(own, new Network()), /`broker-url` is empty/);
    assert.match(await failed(new FakeRunner({ "broker-url": "" }, env), new Network()), /comes from the fork/);
});

test("a dry run is told and leaves nothing", async () => {
    const runner = new FakeRunner({ role: ROLE, "dry-run": "true" });
    const answer = {
        dry_run: true,
        role: ROLE,
        mapping: "m",
        expires_in: 900,
        decision_id: "d",
        mappings_version: "v",
    };
    const network = new Network({ [EXCHANGE]: reply(200, answer) });
    await run(runner, network);
    assert.equal(network.to(EXCHANGE)[0]?.form?.get("dry_run"), "true");
    assert.deepEqual([runner.all("fail"), runner.all("variable"), runner.all("save")], [[], [], []]);
    assert.deepEqual([runner.last("output", "available"), runner.last("output", "reason")], ["false", "dry_run"]);
    assert.match(runner.all("summary").join(), /would be granted/);

    const pending = new FakeRunner({ role: ROLE, "dry-run": "true" });
    await run(pending, new Network({ [EXCHANGE]: reply(200, { ...answer, pending: true }) }));
    assert.match(pending.all("info").join(), /for 900 s, once somebody has claimed it$/);
    assert.match(pending.all("summary").join(), /would be granted once somebody claims it/);

    const disobeyed = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    await failed(new FakeRunner({ role: ROLE, "dry-run": "true" }), disobeyed);
});

test("what acts on the job's behalf is sent along, read anew for every exchange", async () => {
    const file = join(mkdtempSync(join(tmpdir(), "actor-")), "token");
    const actor = (n: number) => `e30.e30.signature-of-actor-${n}`;
    writeFileSync(file, `${actor(1)}\n`);
    const runner = new FakeRunner({ role: ROLE, "actor-token-file": file });
    const busy = () => {
        writeFileSync(file, actor(2));
        return reply(503, {});
    };
    const network = new Network({ [EXCHANGE]: [busy, reply(200, grantedAws())] });
    await run(runner, network);
    const forms = network.to(EXCHANGE).map((ask) => ask.form);
    assert.deepEqual(
        forms.map((form) => form?.get("actor_token")),
        [actor(1), actor(2)],
    );
    assert.equal(forms[0]?.get("actor_token_type"), "urn:ietf:params:oauth:token-type:jwt");
    for (const n of [1, 2]) assert.deepEqual(runner.leaks(actor(n)), []);

    const none = new FakeRunner({ role: ROLE, "actor-token-file": "/nowhere" });
    assert.match(await failed(none, new Network()), /`actor-token-file` is `\/nowhere`, which is no file with a token/);
});

test("clocks that differ are told, and a token that nobody knows is shown claim by claim", async () => {
    const behind = { "/.well-known/claimbound": reply(200, facts({ time: NOW_MS / 1000 + 400 })) };
    const runner = new FakeRunner({ role: ROLE });
    await run(runner, new Network({ ...behind, [EXCHANGE]: reply(200, grantedAws()) }));
    assert.match(runner.all("warn").join(), /This runner's clock is 400 s behind the broker's/);

    const token = (claims: object) =>
        `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.signature-of-ci-token`;
    const unknown = reply(400, { error: "invalid_request", error_description: "No", reason: "token_not_accepted" });
    const cases: [object, Record<string, string>, RegExp[]][] = [
        [
            { iss: "https://ghes.acme.example/_services/token", repository: "acme/a" },
            { GITHUB_SERVER_URL: "https://ghes.acme.example" },
            [/The tokens of https:\/\/ghes.acme.example come from the issuer `https:\/\/ghes.acme.example\/_services/],
        ],
        [
            { iss: "https://token.actions.githubusercontent.com", iat: NOW_MS / 1000 + 300, sub: "::error::x\n::y" },
            {},
            [/issuer is 300 s ahead of the broker's/, /\n {2}environment: MISSING/, /\n {2}sub: ::error::x ::y/],
        ],
    ];
    for (const [claims, env, texts] of cases) {
        const runner = new FakeRunner({ role: ROLE }, env);
        const service = { "pipelines.example/token": reply(200, { value: token(claims) }) };
        const text = await failed(runner, new Network({ ...service, [EXCHANGE]: unknown }));
        for (const part of texts) assert.match(text, part);
        assert.equal(runner.last("output", "reason"), "token_not_accepted");
        assert.match(runner.all("summary").join(), /Claims of this job's token/);
        assert.ok(!text.includes("signature-of-ci-token"));
    }
});

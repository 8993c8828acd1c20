import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { NoAnswer } from "../src/http.ts";
import { login } from "../src/login.ts";
import { logout } from "../src/logout.ts";
import {
    AWS,
    BROKER,
    ciToken,
    EXCHANGE,
    FakePace,
    FakeRunner,
    facts,
    granted,
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

test("an AWS credential reaches the environment, and the answers reach the outputs", async () => {
    const runner = new FakeRunner({ role: ROLE, duration: "15m" });
    const network = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    await run(runner, network);
    const form = network.to(EXCHANGE)[0]?.form;
    assert.deepEqual(Object.fromEntries(form ?? []), {
        grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token: ciToken(1),
        subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
        audience: ROLE,
        requested_expires_in: "900",
    });
    const token = network.to("pipelines.example/token")[0];
    assert.equal(new URL(token?.url ?? "").searchParams.get("audience"), BROKER);
    assert.equal(token?.headers?.authorization, "bearer request-token-of-the-bench");
    assert.equal(runner.env.AWS_ACCESS_KEY_ID, AWS.access_key_id);
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, AWS.secret_access_key);
    assert.equal(runner.env.AWS_SESSION_TOKEN, AWS.session_token);
    assert.deepEqual([runner.env.AWS_REGION, runner.env.AWS_DEFAULT_REGION], ["eu-central-1", "eu-central-1"]);
    const outputs = ["decision-id", "lease-id", "role", "mapping", "expires-at", "available", "reason", "token"];
    assert.deepEqual(
        outputs.map((name) => runner.last("output", name)),
        ["0192-decision", "0192-lease", ROLE, "payments-production", "2026-11-22T10:15:00Z", "true", "", undefined],
    );
    assert.ok(!runner.all("mask").includes("eu-central-1"), "masked values vanish from job outputs");
    assert.match(runner.all("summary").join(), /assumed-role\/payments-deploy/);
});

test("the post step ends the lease and puts back what was there", async () => {
    const env = { AWS_ACCESS_KEY_ID: "AKIAEARLIEREARLIER12", AWS_REGION: "us-east-1" };
    const runner = new FakeRunner({ role: ROLE }, env);
    const network = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    await run(runner, network);
    runner.env.AWS_DEFAULT_REGION = "changed-by-a-later-step";
    await logout(runner, network.send, new FakePace());
    assert.equal(network.to("/revoke")[0]?.form?.get("token"), HANDLE);
    const left = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"].map(
        (n) => runner.env[n],
    );
    assert.deepEqual(left, ["AKIAEARLIEREARLIER12", "", "us-east-1", "changed-by-a-later-step"]);
    assert.deepEqual([runner.all("warn"), runner.all("fail")], [[], []]);
});

test("two logins in one job end in reverse order, each in what it found", async () => {
    const network = (n: number) =>
        new Network({ [EXCHANGE]: reply(200, grantedAws({ access_key_id: `ASIACANARYCANARY000${n}` })) });
    const first = new FakeRunner({ role: ROLE });
    await login(first, network(1).send, new FakePace());
    const second = new FakeRunner({ role: ROLE });
    second.env = { ...first.env };
    await login(second, network(2).send, new FakePace());
    await logout(second, network(2).send, new FakePace());
    assert.equal(second.env.AWS_ACCESS_KEY_ID, "ASIACANARYCANARY0001");
    first.env = { ...second.env };
    await logout(first, network(1).send, new FakePace());
    assert.equal(first.env.AWS_ACCESS_KEY_ID, "");
});

test("a profile stands outside the workspace, readable by nobody else, and goes", async () => {
    const home = mkdtempSync(join(tmpdir(), "job-"));
    const [temp, workspace] = [join(home, "temp"), join(home, "work")];
    for (const folder of [temp, workspace]) mkdirSync(folder);
    const runner = new FakeRunner({ role: ROLE, mode: "profile" }, { RUNNER_TEMP: temp, GITHUB_WORKSPACE: workspace });
    const network = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    await run(runner, network);
    const file = runner.env.AWS_SHARED_CREDENTIALS_FILE ?? "";
    assert.ok(file.startsWith(temp), file);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.equal(statSync(join(file, "..")).mode & 0o777, 0o700);
    assert.equal(runner.env.AWS_PROFILE, ROLE);
    assert.ok(readFileSync(file, "utf8").startsWith(`[${ROLE}]\naws_access_key_id = ${AWS.access_key_id}\n`));
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, undefined);
    assert.deepEqual(readdirSync(workspace), []);
    await logout(runner, network.send, new FakePace());
    assert.deepEqual([readdirSync(temp), runner.env.AWS_PROFILE], [[], ""]);
});

test("a profile that would not count, or would stand in the workspace, fails before a token is spent", async () => {
    const home = mkdtempSync(join(tmpdir(), "job-"));
    const cases: [Record<string, string>, RegExp][] = [
        [{ RUNNER_TEMP: home, AWS_ACCESS_KEY_ID: "AKIA" }, /`AWS_ACCESS_KEY_ID` is set in this job/],
        [{ RUNNER_TEMP: home, GITHUB_WORKSPACE: home }, /inside the workspace/],
        [{ RUNNER_TEMP: join(home, "none") }, /`RUNNER_TEMP`, which is no folder/],
    ];
    for (const [env, text] of cases) {
        const network = new Network();
        assert.match(await failed(new FakeRunner({ mode: "profile" }, env), network), text);
        assert.deepEqual(network.asked, []);
    }
});

test("a JWT is an output where it is asked for", async () => {
    const runner = new FakeRunner({ role: ROLE, mode: "output" });
    await run(runner, new Network({ [EXCHANGE]: reply(200, granted({ kind: "jwt", jwt: JWT })) }));
    assert.equal(runner.last("output", "token"), JWT);
    assert.ok(runner.all("mask").includes("canary-signature-of-jwt"));
    assert.deepEqual(runner.all("variable"), []);
});

test("a credential that the inputs do not fit is ended at once", async () => {
    const cases: [Record<string, string>, object, string, RegExp][] = [
        [{}, granted({ kind: "jwt", jwt: JWT }), "mode_unfit", /Set `mode: output`/],
        [{ mode: "output" }, grantedAws(), "mode_unfit", /`mode: environment` or `mode: profile`/],
        [{ "allowed-account-ids": "222222222222" }, grantedAws(), "account_not_allowed", /account 111111111111/],
    ];
    for (const [inputs, answer, reason, text] of cases) {
        const runner = new FakeRunner({ role: ROLE, ...inputs });
        const network = new Network({ [EXCHANGE]: reply(200, answer) });
        assert.match(await failed(runner, network), text);
        assert.equal(runner.last("output", "reason"), reason);
        assert.equal(network.to("/revoke").length, 1);
        await logout(runner, network.send, new FakePace());
        assert.equal(network.to("/revoke").length, 1, "the post step has nothing left to end");
    }
});

test("a refusal is one request, told whole, and never skipped", async () => {
    const runner = new FakeRunner({ role: ROLE, "on-unavailable": "skip" });
    const network = new Network({ [EXCHANGE]: reply(400, REFUSAL) });
    const text = await failed(runner, network);
    assert.match(text, /branch: expected `main`, got `feature`/);
    assert.equal(network.to(EXCHANGE).length, 1);
    assert.equal(runner.last("output", "reason"), "no_mapping");
    assert.equal(runner.last("output", "decision-id"), "0192-refused");
});

test("an outage that outlasts the deadline names the broker's decision", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const outage = reply(503, { reason: "backend_refused", decision_id: "0192abcd" }, 3600);
    const network = new Network({ "/.well-known/claimbound": reply(200, facts()), [EXCHANGE]: outage });
    assert.match(await failed(runner, network), /answered 503 \(`backend_refused`, decision 0192abcd\)/);
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

test("a folder that cannot be removed keeps no variable set", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const network = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    await run(runner, network);
    const trace = JSON.parse(runner.saved("trace"));
    // Nothing below a file can be removed.
    const file = join(mkdtempSync(join(tmpdir(), "job-")), "file");
    writeFileSync(file, "");
    runner.save("trace", JSON.stringify({ ...trace, directory: join(file, "claimbound-x") }));
    await logout(runner, network.send, new FakePace());
    assert.match(runner.all("warn").join(), /could not all be removed/);
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, "");
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

    const disobeyed = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    await failed(new FakeRunner({ role: ROLE, "dry-run": "true" }), disobeyed);
});

test("the post step never fails, and is idle where there is nothing or no more", async () => {
    const idle = new Network();
    await logout(new FakeRunner(), idle.send, new FakePace());
    assert.deepEqual(idle.asked, []);

    const down = new Network({
        [EXCHANGE]: reply(200, grantedAws()),
        "/revoke": new NoAnswer("the connection was refused"),
    });
    const runner = new FakeRunner({ role: ROLE });
    await run(runner, down);
    await logout(runner, down.send, new FakePace());
    assert.deepEqual([runner.all("fail"), runner.all("warn").length], [[], 1]);
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, "", "the environment is cleaned all the same");
    for (const secret of SECRETS) assert.deepEqual(runner.leaks(secret), []);

    const expired = new Network({ [EXCHANGE]: reply(200, grantedAws()) });
    const late = new FakeRunner({ role: ROLE });
    await run(late, expired);
    const pace = new FakePace();
    pace.ms = NOW_MS + 900_000;
    await logout(late, expired.send, pace);
    assert.equal(expired.to("/revoke").length, 0);
    assert.match(late.all("info").join(), /nothing to end/);

    const broken = new FakeRunner();
    broken.save("lease", "{");
    broken.save("trace", "{");
    await logout(broken, idle.send, new FakePace());
    assert.deepEqual([broken.all("fail"), broken.all("warn").length], [[], 2]);
});

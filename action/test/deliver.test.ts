import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { NoAnswer } from "../src/http.ts";
import { login } from "../src/login.ts";
import { logout } from "../src/logout.ts";
import { winners } from "../src/rivals.ts";
import {
    AGENT,
    AWS,
    BROKER,
    ciToken,
    EXCHANGE,
    FakePace,
    FakeRunner,
    granted,
    grantedAws,
    HANDLE,
    JWT,
    Network,
    NOW_MS,
    reply,
} from "./bench.ts";

const ROLE = "payments-deploy.production";
const SECRETS = [...Object.values(AWS), HANDLE, JWT, ciToken(1)];
const ENV = { role: ROLE, mode: "env" };

async function run(runner: FakeRunner, network: Network, pace = new FakePace()): Promise<void> {
    await login(runner, network.send, pace);
    for (const secret of SECRETS) assert.deepEqual(runner.leaks(secret), [], "masked before it is used, never shown");
    for (const secret of [HANDLE, ...Object.values(AWS)]) {
        assert.ok(!runner.all("save").join().includes(secret), "the runner's state file is no place for secrets");
    }
}

async function failed(runner: FakeRunner, network: Network): Promise<string> {
    await run(runner, network);
    assert.equal(runner.last("output", "available"), "false");
    assert.deepEqual(runner.all("variable"), []);
    const [text] = runner.all("fail");
    assert.ok(text !== undefined, "the step fails");
    return text;
}

/** Every file below a folder is for its owner alone. */
function assertPrivate(folder: string): void {
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    for (const name of readdirSync(folder)) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name);
}

const aws = (more: object = {}) => new Network({ [EXCHANGE]: reply(200, grantedAws(more)) });
const jwt = () => new Network({ [EXCHANGE]: reply(200, granted({ kind: "jwt", jwt: JWT })) });

test("an AWS credential reaches the environment, and the answers reach the outputs", async () => {
    const runner = new FakeRunner({ ...ENV, duration: "15m" });
    const network = aws();
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
    const expected = {
        "decision-id": "0192-decision",
        "lease-id": "0192-lease",
        role: ROLE,
        mapping: "payments-production",
        "expires-at": "2026-11-22T10:15:00Z",
        "expires-in-seconds": "900",
        "account-id": "111111111111",
        available: "true",
        reason: "",
        token: undefined,
        file: undefined,
    };
    for (const [name, value] of Object.entries(expected)) assert.equal(runner.last("output", name), value, name);
    const masked = runner.all("mask");
    assert.ok(!masked.includes("eu-central-1") && !masked.includes("111111111111"), "masked values leave job outputs");
    assert.match(runner.all("summary").join(), /assumed-role\/payments-deploy/);
});

test("by itself an AWS credential is given by an agent, which the post step stops", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const later = {
        handle: "handle-of-the-renewal",
        leaseId: "0192-later",
        kind: "aws",
        expiresAtMs: NOW_MS + 900_000,
    };
    const network = new Network({
        [EXCHANGE]: reply(200, grantedAws()),
        "127.0.0.1:4711/stop": reply(200, { leases: [later] }),
    });
    await run(runner, network);
    assert.deepEqual(runner.all("agent"), ["0192-lease"]);
    assert.equal(runner.env.AWS_CONTAINER_CREDENTIALS_FULL_URI, `${AGENT.url}/credentials`);
    assert.equal(runner.env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, "/the/token-file");
    assert.equal(runner.env.AWS_REGION, "eu-central-1");
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, undefined);
    assert.match(runner.all("info").join(), /the agent renews it until the job ends/);

    const log = join(runner.saved("notes"), "agent.log");
    const line = (what: string, text: string) => JSON.stringify({ at: "then", what, text, reason: "no_mapping" });
    writeFileSync(log, `${line("renewed", "until then")}\n${line("refused", "No\r\n::error::x")}\n`);
    await logout(runner, network.send, new FakePace());
    assert.equal(network.to("/stop")[0]?.headers?.authorization, AGENT.control);
    const revoked = network.to("/revoke").map((ask) => ask.form?.get("token"));
    assert.deepEqual(revoked, [later.handle, HANDLE], "what it renewed, too");
    assert.deepEqual([runner.leaks(later.handle), runner.leaks(AGENT.control)], [[], []]);
    assert.ok(runner.all("info").includes("agent: then refused: No ::error::x"), runner.all("info").join("\n"));
    assert.match(runner.all("warn").join(), /could not renew the credential/);
    assert.match(runner.all("summary").join(), /not renewed/);
    assert.equal(runner.env.AWS_CONTAINER_CREDENTIALS_FULL_URI, "");
});

test("an agent that is gone is told, and the first lease is ended all the same", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const gone = { "127.0.0.1:4711/stop": new NoAnswer("the connection was refused") };
    const network = new Network({ [EXCHANGE]: reply(200, grantedAws()), ...gone });
    await run(runner, network);
    await logout(runner, network.send, new FakePace());
    assert.match(runner.all("warn").join(), /The agent does not answer any more/);
    assert.deepEqual([network.to("/revoke").length, runner.all("fail")], [1, []]);
});

test("whoever else answers at the agent's port changes nothing", async () => {
    const lease = { handle: "handle-of-somebody", leaseId: "0192-x", kind: "aws", expiresAtMs: NOW_MS + 1000 };
    const odd = [null, 7, {}, { ...lease, handle: "e" }, { ...lease, handle: 5 }, { ...lease, expiresAtMs: 1e300 }];
    for (const said of [{ leases: odd }, { leases: "all" }, null, "leases"]) {
        const runner = new FakeRunner({ role: ROLE });
        const network = new Network({
            [EXCHANGE]: reply(200, grantedAws()),
            "127.0.0.1:4711/stop": reply(200, said),
        });
        await run(runner, network);
        writeFileSync(join(runner.saved("notes"), "agent.log"), "null\n7\n{}\nno JSON\n");
        await logout(runner, network.send, new FakePace());
        const revoked = network.to("/revoke").map((ask) => ask.form?.get("token"));
        assert.deepEqual([revoked, runner.all("fail")], [[HANDLE], []], JSON.stringify(said));
        assert.ok(!runner.all("mask").includes("e"), "it would hide half of the log");
    }
});

test("the post step ends the lease and puts back what was there", async () => {
    const env = { AWS_ACCESS_KEY_ID: "AKIAEARLIEREARLIER12", AWS_REGION: "us-east-1" };
    const runner = new FakeRunner(ENV, env);
    const network = aws();
    await run(runner, network);
    runner.env.AWS_DEFAULT_REGION = "changed-by-a-later-step";
    assertPrivate(runner.saved("notes"));
    await logout(runner, network.send, new FakePace());
    assert.equal(network.to("/revoke")[0]?.form?.get("token"), HANDLE);
    const names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"];
    const left = names.map((name) => runner.env[name]);
    assert.deepEqual(left, ["AKIAEARLIEREARLIER12", "", "us-east-1", "changed-by-a-later-step"]);
    assert.deepEqual([runner.all("warn"), runner.all("fail")], [[], []]);
    assert.deepEqual(readdirSync(runner.env.RUNNER_TEMP ?? ""), []);
});

test("two logins in one job end in reverse order, each in what it found", async () => {
    const network = (n: number) => aws({ access_key_id: `ASIACANARYCANARY000${n}` });
    const first = new FakeRunner(ENV);
    await login(first, network(1).send, new FakePace());
    const second = new FakeRunner(ENV);
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
    const network = aws();
    await run(runner, network);
    const file = runner.env.AWS_SHARED_CREDENTIALS_FILE ?? "";
    assert.ok(file.startsWith(temp), file);
    assertPrivate(join(file, ".."));
    assert.equal(runner.env.AWS_PROFILE, ROLE);
    assert.equal(runner.last("output", "file"), file);
    assert.ok(readFileSync(file, "utf8").startsWith(`[${ROLE}]\naws_access_key_id = ${AWS.access_key_id}\n`));
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, undefined);
    assert.deepEqual(readdirSync(workspace), []);
    await logout(runner, network.send, new FakePace());
    assert.deepEqual([readdirSync(temp), runner.env.AWS_PROFILE], [[], ""]);
});

test("a file holds the credential alone: a JWT by itself, AWS keys as the process protocol has them", async () => {
    for (const [inputs, network, text] of [
        [{ role: ROLE }, jwt(), JWT],
        [{ role: ROLE, mode: "file" }, aws(), `"SecretAccessKey":"${AWS.secret_access_key}"`],
    ] as const) {
        const runner = new FakeRunner(inputs);
        await run(runner, network);
        const file = runner.env.CLAIMBOUND_CREDENTIAL_FILE ?? "";
        assert.ok(readFileSync(file, "utf8").includes(text));
        assertPrivate(join(file, ".."));
        assert.equal(runner.last("output", "file"), file);
        assert.ok(!runner.told.some((told) => told.how !== "mask" && told.value.includes(text)));
    }
});

test("a JWT is an output or a variable where that is asked for", async () => {
    const runner = new FakeRunner({ role: ROLE, mode: "output" });
    await run(runner, jwt());
    assert.equal(runner.last("output", "token"), JWT);
    assert.ok(runner.all("mask").includes("canary-signature-of-jwt"));
    assert.deepEqual(runner.all("variable"), []);
    const env = new FakeRunner(ENV);
    await run(env, jwt());
    assert.equal(env.env.CLAIMBOUND_JWT, JWT);
});

test("credentials that AWS clients would prefer are named before a token is spent", async () => {
    const home = mkdtempSync(join(tmpdir(), "job-"));
    mkdirSync(join(home, ".aws"));
    const credentials = join(home, ".aws", "credentials");
    writeFileSync(credentials, "[other]\naws_access_key_id = AKIA\n[ default ]\nregion = x\n role_arn=y\n");
    const cases: [string, Record<string, string>, RegExp][] = [
        [
            "profile",
            { AWS_ACCESS_KEY_ID: "AKIA" },
            /another AWS credential \(`AWS_ACCESS_KEY_ID`\).* to a profile.*`env`/,
        ],
        ["agent", { AWS_PROFILE: "p" }, /\(`AWS_PROFILE`\), and AWS clients prefer it to an agent/],
        ["agent", { AWS_ROLE_ARN: "a", AWS_WEB_IDENTITY_TOKEN_FILE: "f" }, /`AWS_WEB_IDENTITY_TOKEN_FILE`/],
        ["agent", { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/x" }, /`AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`/],
        [
            "agent",
            { HOME: home },
            /credentials`\), and AWS clients prefer it to an agent. Use `mode:` `profile` or `env`/,
        ],
    ];
    for (const [mode, env, text] of cases) {
        const network = new Network();
        assert.match(await failed(new FakeRunner({ mode }, env), network), text);
        assert.deepEqual(network.asked, []);
    }
    const quiet = { HOME: mkdtempSync(join(tmpdir(), "job-")), AWS_PROFILE: "", AWS_ROLE_ARN: "alone" };
    assert.deepEqual(winners("agent", quiet), []);
    assert.deepEqual(winners("env", { AWS_ACCESS_KEY_ID: "AKIA", AWS_PROFILE: "p" }), [], "nothing beats variables");

    // Where the mode is open, only the grant tells that there are rivals at all.
    const open = new FakeRunner({ role: ROLE }, { AWS_PROFILE: "p" });
    const network = aws();
    assert.match(await failed(open, network), /`AWS_PROFILE`/);
    assert.equal(network.to("/revoke").length, 1);
    const unrivalled = new FakeRunner({ role: ROLE }, { AWS_PROFILE: "p" });
    await run(unrivalled, jwt());
    assert.equal(unrivalled.last("output", "available"), "true");

    const warned = new FakeRunner(ENV, { AWS_PROFILE: "p" });
    await run(warned, aws());
    assert.match(warned.all("warn").join(), /some AWS clients prefer it to the variables/);
});

test("a runner whose files would be committed, or that has no place for them, is told before a token is spent", async () => {
    const home = mkdtempSync(join(tmpdir(), "job-"));
    const cases: [Record<string, string>, RegExp][] = [
        [{ RUNNER_TEMP: home, GITHUB_WORKSPACE: home }, /inside the workspace/],
        [{ RUNNER_TEMP: join(home, "none") }, /which is no folder here/],
    ];
    for (const [env, text] of cases) {
        const [network, runner] = [new Network(), new FakeRunner({ mode: "env" }, env)];
        assert.match(await failed(runner, network), text);
        assert.deepEqual([network.asked, runner.last("output", "reason")], [[], "runner_unfit"]);
    }
});

test("a credential that the inputs do not fit is ended at once", async () => {
    const cases: [Record<string, string>, object, string, RegExp][] = [
        [{ mode: "agent" }, granted({ kind: "jwt", jwt: JWT }), "mode_unfit", /Use `mode: file`, `env` or `output`/],
        [{ mode: "output" }, grantedAws(), "mode_unfit", /does not put into outputs/],
        [{}, { ...grantedAws(), expires_in: 200 }, "mode_unfit", /lives for 200 s, which is too short/],
        [{ "allowed-account-ids": "222222222222" }, grantedAws(), "account_not_allowed", /account 111111111111/],
        [
            { "allowed-account-ids": "2".repeat(12) },
            granted({ kind: "jwt", jwt: JWT }),
            "account_not_allowed",
            /about AWS/,
        ],
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

test("a job that may outlive its credential is warned, unless an agent renews it", async () => {
    for (const [inputs, warns] of [
        [{ mode: "env", "job-timeout": "16m" }, true],
        [{ mode: "env", "job-timeout": "15m" }, false],
        [{ mode: "agent", "job-timeout": "16m" }, false],
    ] as const) {
        const runner = new FakeRunner({ role: ROLE, ...inputs });
        await run(runner, aws());
        const text =
            /This job may take 960 s \(`job-timeout`\), and its credential ends after 900 s; `mode: agent` renews/;
        assert.equal(text.test(runner.all("warn").join()), warns, JSON.stringify(inputs));
    }
});

test("a folder that cannot be removed keeps no variable set", async () => {
    const runner = new FakeRunner(ENV);
    const network = aws();
    await run(runner, network);
    // What is no folder any more cannot be read, either: the lease runs out by itself.
    const odd = { ...runner, saved: () => "/dev/null/claimbound-x" } as unknown as FakeRunner;
    odd.warn = runner.warn.bind(runner);
    await logout(odd, network.send, new FakePace());
    assert.match(runner.all("warn").join(), /could not all be removed/);
});

test("the post step never fails, and is idle where there is nothing or no more", async () => {
    const idle = new Network();
    await logout(new FakeRunner(), idle.send, new FakePace());
    assert.deepEqual(idle.asked, []);

    const down = new Network({
        [EXCHANGE]: reply(200, grantedAws()),
        "/revoke": new NoAnswer("the connection was refused"),
    });
    const runner = new FakeRunner(ENV);
    await run(runner, down);
    await logout(runner, down.send, new FakePace());
    assert.deepEqual([runner.all("fail"), runner.all("warn").length], [[], 1]);
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, "", "the environment is cleaned all the same");
    for (const secret of SECRETS) assert.deepEqual(runner.leaks(secret), []);

    const expired = aws();
    const late = new FakeRunner(ENV);
    await run(late, expired);
    const pace = new FakePace();
    pace.ms = NOW_MS + 900_000;
    await logout(late, expired.send, pace);
    assert.equal(expired.to("/revoke").length, 0);
    assert.match(late.all("info").join(), /nothing to end/);

    const broken = new FakeRunner(ENV);
    await run(broken, aws());
    assert.equal(basename(broken.saved("notes")).startsWith("claimbound-"), true);
    writeFileSync(join(broken.saved("notes"), "notes.json"), "{");
    await logout(broken, idle.send, new FakePace());
    assert.deepEqual([broken.all("fail"), broken.all("warn").length], [[], 1]);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { NoAnswer } from "../src/http.ts";
import { login } from "../src/login.ts";
import { logout } from "../src/logout.ts";
import { AWS, BROKER, ciToken, EXCHANGE, FakePace, FakeRunner, grantedAws, Network, reply } from "./bench.ts";

const ROLE = "payments-deploy.production";
const REQUEST = "canary-auth-req-id-0123456789abcdef";
const LINK = `${BROKER}/claim/0192aabbccddeeff`;

const pending = (more: object = {}) =>
    reply(400, {
        error: "authorization_pending",
        error_description: "A person must claim this role",
        reason: "ceremony_needed",
        decision_id: "0192-pending",
        auth_req_id: REQUEST,
        claim_uri: LINK,
        match_code: "BCDF-GHJK",
        match_words: "amber canoe tulip",
        interval: 5,
        expires_in: 600,
        ...more,
    });
const state = (error: string, more: object = {}) =>
    reply(400, { error, error_description: "said", reason: error, decision_id: "0192-poll", ...more });

async function run(runner: FakeRunner, network: Network, pace = new FakePace()): Promise<void> {
    await login(runner, network.send, pace);
    assert.deepEqual(runner.leaks(REQUEST), [], "masked before it is used, never shown");
}

test("a job waits for its approver and goes on with a fresh token", async () => {
    const runner = new FakeRunner({ role: ROLE, mode: "env" });
    const ready = state("authorization_pending", { ready: true });
    const slow = [pending(), state("authorization_pending"), state("slow_down"), ready, reply(200, grantedAws())];
    const network = new Network({ [EXCHANGE]: slow });
    const pace = new FakePace();
    await run(runner, network, pace);
    const forms = network.to(EXCHANGE).map((ask) => Object.fromEntries(ask.form ?? []));
    const poll = { grant_type: "urn:openid:params:grant-type:ciba", auth_req_id: REQUEST };
    assert.deepEqual(forms.slice(1, 4), [poll, poll, poll], "a poll shows no token of the job");
    const subject = { subject_token: ciToken(2), subject_token_type: "urn:ietf:params:oauth:token-type:id_token" };
    assert.deepEqual(forms[4], { ...poll, ...subject });
    assert.deepEqual(pace.slept, [5000, 5000, 10_000], "slower when the broker says so");
    assert.equal(runner.last("output", "available"), "true");
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, AWS.secret_access_key);
    const log = runner.all("info").join("\n");
    for (const shown of [LINK, "BCDF-GHJK", "amber canoe tulip"]) assert.ok(log.includes(shown), shown);
    await logout(runner, network.send, new FakePace());
    assert.equal(network.to("/revoke").length, 1, "the lease alone: nothing waits any more");
});

test("a job that shall not wait ends with what an approver needs", async () => {
    const runner = new FakeRunner({ role: ROLE, "on-pending": "stop" });
    const network = new Network({ [EXCHANGE]: pending() });
    await run(runner, network);
    assert.equal(network.to(EXCHANGE).length, 1);
    assert.equal(runner.last("output", "reason"), "ceremony_needed");
    for (const shown of [LINK, "BCDF-GHJK"]) {
        assert.ok(runner.all("fail").join().includes(shown), shown);
        assert.ok(runner.all("summary").join().includes(shown), shown);
    }
    await logout(runner, network.send, new FakePace());
    assert.deepEqual(network.to("/revoke"), [], "it can be claimed until it ends");
});

test("a rejection ends the step at once, with its reason", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const rejected = state("access_denied", { error_description: "Rejected: not during the freeze" });
    const network = new Network({ [EXCHANGE]: [pending(), rejected] });
    await run(runner, network);
    for (const how of ["fail", "summary"]) assert.match(runner.all(how).join(), /Rejected: not during the freeze/, how);
    assert.equal(runner.last("output", "available"), "false");
    await logout(runner, network.send, new FakePace());
    assert.deepEqual(network.to("/revoke"), [], "there is nothing to withdraw any more");
});

test("what nobody claims in time ends, and the log says now and then that it waits", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const network = new Network({ [EXCHANGE]: [pending(), state("authorization_pending")] });
    const pace = new FakePace();
    await run(runner, network, pace);
    assert.match(runner.all("fail").join(), /Nobody claimed it in time/);
    assert.equal(runner.last("output", "reason"), "expired_token");
    const said = runner.all("info").filter((line) => line.includes("min left"));
    assert.equal(said.length, 10, said.join("\n"));
    assert.equal(network.to(EXCHANGE).length, 1 + 600 / 5);
});

test("a broker that goes away while the job waits is told, and the request withdrawn", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const network = new Network({ [EXCHANGE]: [pending(), new NoAnswer("the connection was refused")] });
    await run(runner, network);
    assert.equal(runner.last("output", "reason"), "broker_unreachable");
    await logout(runner, network.send, new FakePace());
    assert.equal(network.to("/revoke")[0]?.form?.get("token"), REQUEST);
});

test("a broker that wants to be asked without a pause, or never again, is not obeyed", async () => {
    for (const more of [{ interval: 0 }, { interval: 2 ** 31 }, { interval: "5" }, { expires_in: 1e12 }]) {
        const runner = new FakeRunner({ role: ROLE });
        const [network, pace] = [new Network({ [EXCHANGE]: pending(more) }), new FakePace()];
        await run(runner, network, pace);
        assert.equal(runner.last("output", "reason"), "answer_invalid", JSON.stringify(more));
        assert.deepEqual([network.to(EXCHANGE).length, pace.slept], [1, []]);
    }
});

test("a cancelled job withdraws what it waits for", async () => {
    const runner = new FakeRunner({ role: ROLE });
    const cancelled = new Network({ [EXCHANGE]: [pending(), new Error("the runner is gone")] });
    await assert.rejects(login(runner, cancelled.send, new FakePace()));
    const network = new Network();
    await logout(runner, network.send, new FakePace());
    assert.equal(network.to("/revoke")[0]?.form?.get("token"), REQUEST);
    assert.match(runner.all("info").join(), /withdrawn/);
    assert.deepEqual(runner.leaks(REQUEST), []);
});

test("a link that leads elsewhere is not shown to anybody", async () => {
    for (const claim_uri of ["https://evil.example/claim/1", `${BROKER}.evil.example/claim/1`, `${BROKER}/other`]) {
        const runner = new FakeRunner({ role: ROLE });
        await run(runner, new Network({ [EXCHANGE]: pending({ claim_uri }) }));
        assert.equal(runner.last("output", "reason"), "answer_invalid");
        assert.ok(!runner.told.some((told) => told.value.includes(claim_uri)), claim_uri);
    }
});

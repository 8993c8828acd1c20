import assert from "node:assert/strict";
import { test } from "node:test";
import { cancellable } from "../src/cancel.ts";
import { login } from "../src/login.ts";
import { logout } from "../src/logout.ts";
import { ciToken, EXCHANGE, FakePace, FakeRunner, grantedAws, HANDLE, Network, reply } from "./bench.ts";

const INPUTS = { role: "payments-deploy.production", mode: "env" };

/** A login that is cancelled when this is asked, before the answer comes. */
async function cancelled(at: string, answer = reply(200, grantedAws())): Promise<[FakeRunner, Network, FakePace]> {
    const [runner, pace] = [new FakeRunner(INPUTS), new FakePace()];
    const token = () => reply(200, { value: ciToken(1) });
    const network = new Network({ "pipelines.example/token": token, [EXCHANGE]: answer });
    const job = cancellable(async (ask) => {
        const said = await network.send(ask);
        if (network.to(at).length > 0) job.cancel();
        return said;
    }, pace);
    await login(runner, job.send, job.pace);
    return [runner, network, pace];
}

test("a cancelled job asks for nothing more", async () => {
    const [runner, network, pace] = await cancelled("pipelines.example/token");
    assert.deepEqual([network.to(EXCHANGE), pace.slept], [[], []]);
    assert.deepEqual([runner.last("output", "reason"), runner.last("output", "available")], ["cancelled", "false"]);
    assert.match(runner.all("fail").join(), /The job was cancelled/);

    const [, busy] = await cancelled(EXCHANGE, reply(503, {}));
    assert.equal(busy.to(EXCHANGE).length, 1, "it is not tried again");
});

test("what was asked before is heard, and ended by the post step", async () => {
    const [runner, network] = await cancelled(EXCHANGE);
    await logout(runner, network.send, new FakePace());
    assert.deepEqual(
        network.to("/revoke").map((ask) => ask.form?.get("token")),
        [HANDLE],
    );
    assert.equal(runner.env.AWS_SECRET_ACCESS_KEY, "");
});

test("whoever waits is woken", async () => {
    const pace = new FakePace();
    pace.sleep = () => new Promise(() => {});
    const job = cancellable(new Network().send, pace);
    const waits = job.pace.sleep(600_000);
    job.cancel();
    await assert.rejects(waits, /The job was cancelled/);
});

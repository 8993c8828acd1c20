import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../src/failure.ts";
import { Passing, persist, waitMs } from "../src/retry.ts";
import { FakePace, NOW_MS } from "./bench.ts";

test("waits grow to a limit, half of each is chance, and Retry-After is a floor", () => {
    assert.deepEqual(
        [1, 2, 3, 9].map((tries) => waitMs(tries, undefined, 0)),
        [250, 500, 1000, 4000],
    );
    assert.equal(waitMs(1, undefined, 1), 500);
    assert.equal(waitMs(1, 7, 0), 7250);
});

test("what may pass is tried until the deadline, and then told as unavailable", async () => {
    const pace = new FakePace();
    let tries = 0;
    const gaveUp = persist(pace, NOW_MS + 10_000, async () => {
        tries += 1;
        throw new Passing("store_down", "The broker answered 503");
    });
    await assert.rejects(gaveUp, (error: Failure) => error.unavailable && error.reason === "store_down");
    assert.ok(tries >= 4, `${tries}`);
    assert.ok(pace.ms < NOW_MS + 10_000, "nobody waits beyond the deadline");
});

test("a Retry-After beyond the deadline ends it at once", async () => {
    const pace = new FakePace();
    const attempt = async () => {
        throw new Passing("rate_limited", "The broker answered 429", 3600);
    };
    await assert.rejects(persist(pace, NOW_MS + 60_000, attempt), /Given up after 1 try/);
    assert.deepEqual(pace.slept, []);
});

test("anything else is final", async () => {
    let tries = 0;
    const attempt = async () => {
        tries += 1;
        throw new Failure("no_mapping", "no");
    };
    await assert.rejects(persist(new FakePace(), NOW_MS + 60_000, attempt), Failure);
    assert.equal(tries, 1);
});

// The post step: the credential goes, the environment is as it was, the lease is ended. A job that was green stays so:
// everything here is a courtesy, since credentials end by themselves.

import { revoke } from "./broker.ts";
import { ASKED, type Asked } from "./ceremony.ts";
import { undo } from "./deliver.ts";
import type { Send } from "./http.ts";
import { LEASE, type Lease } from "./login.ts";
import { time } from "./report.ts";
import { type Pace, persist } from "./retry.ts";
import type { Runner } from "./runner.ts";

const TRY_FOR_MS = 15_000;
const TITLE = "claimbound: clean-up";

/** Never throws. */
export async function logout(runner: Runner, send: Send, pace: Pace): Promise<void> {
    try {
        undo(runner);
    } catch {
        runner.warn("Files or variables of the credential could not all be removed", TITLE);
    }
    try {
        await withdraw(runner, send, pace);
    } catch (error) {
        const text = error instanceof Error ? error.message : "";
        runner.warn(`The request that waits for an approver was not withdrawn and runs out by itself. ${text}`, TITLE);
    }
    try {
        await end(runner, send, pace);
    } catch (error) {
        const text = error instanceof Error ? error.message : "";
        runner.warn(`The lease was not ended at the broker and runs out by itself. ${text}`, TITLE);
    }
}

/** The job is cancelled while it waits: nobody needs to claim for it any more. */
async function withdraw(runner: Runner, send: Send, pace: Pace): Promise<void> {
    const saved = runner.saved(ASKED);
    if (saved === "") return;
    const { brokerUrl, authReqId } = JSON.parse(saved) as Asked;
    runner.mask(authReqId);
    await persist(pace, pace.nowMs() + TRY_FOR_MS, () => revoke(send, brokerUrl, authReqId));
    runner.info("The request that waited for an approver is withdrawn");
}

async function end(runner: Runner, send: Send, pace: Pace): Promise<void> {
    const saved = runner.saved(LEASE);
    if (saved === "") return;
    const lease = JSON.parse(saved) as Lease;
    runner.mask(lease.handle);
    if (pace.nowMs() >= lease.expiresAtMs) {
        runner.info(`Lease ${lease.leaseId} is over since ${time(lease.expiresAtMs)}; there is nothing to end`);
        return;
    }
    await persist(pace, pace.nowMs() + TRY_FOR_MS, () => revoke(send, lease.brokerUrl, lease.handle));
    const what = lease.kind === "aws" ? "AWS key" : "JWT";
    runner.info(`Lease ${lease.leaseId} is ended. A copied ${what} may be accepted until ${time(lease.expiresAtMs)}`);
}

// A role that a person answers for: what the job shows while it waits, and how it goes on. Whoever reads the log can open
// the link and compare the words; only this job can redeem.

import { type Decision, type Granted, poll, redeem } from "./broker.ts";
import { Failure } from "./failure.ts";
import type { Send } from "./http.ts";
import type { Inputs } from "./inputs.ts";
import { freshToken, type TokenSource } from "./job.ts";
import { pendingSummary, time } from "./report.ts";
import type { Notes } from "./notes.ts";
import { type Pace, persist } from "./retry.ts";
import type { Runner } from "./runner.ts";

/** The broker waits for a person. */
export interface Pending {
    decisionId: string;
    /** Names this job's request to the broker; a secret. */
    authReqId: string;
    claimUri: string;
    matchCode: string;
    /** To compare with the page. */
    words: string;
    intervalSeconds: number;
    expiresInSeconds: number;
}
/** RFC 8628, section 3.5: what is added to the interval each time that the broker says `slow_down`. */
const SLOWER_SECONDS = 5;
/** Reasons by which a request is over at the broker: nothing is left to be withdrawn. */
const OVER = /^(ceremony_\w+|expired_token|access_denied|grant_unknown)$/;
/** How often the log says that the job still waits. */
const SAY_SECONDS = 60;

/** Shows what a person needs; then waits for them, or ends here, as `on-pending` says. */
export async function wait(
    pending: Pending,
    inputs: Inputs,
    source: TokenSource,
    notes: Notes | undefined,
    runner: Runner,
    send: Send,
    pace: Pace,
): Promise<Granted | Decision> {
    const endsMs = pace.nowMs() + pending.expiresInSeconds * 1000;
    runner.output("decision-id", pending.decisionId);
    runner.info("This role needs somebody who answers for it. Ask an approver to open this link and to claim it:");
    runner.info(`  link:  ${pending.claimUri}`);
    runner.info(`  code:  ${pending.matchCode}   (they type it)`);
    runner.info(`  words: ${pending.words}   (the page shows the same, or it is not this job's)`);
    runner.info(`It can be claimed until ${time(endsMs)}`);
    if (inputs.onPending === "stop") {
        const text = `${inputs.role ?? "The role"} is given once somebody has claimed it: ${pending.claimUri}, code ${pending.matchCode}`;
        // What a claim binds to, the broker knows: a workload for good, or this very job.
        const then =
            "Then run this job again. Where each grant is claimed anew, that asks anew: use `on-pending: wait`";
        throw new Failure("ceremony_needed", `${text}. ${then}`, {
            decisionId: pending.decisionId,
            details: pendingSummary(pending),
        });
    }
    // A cancelled job withdraws it in the post step.
    notes?.note({ asked: pending.authReqId });
    try {
        const decided = await waited(pending, endsMs, inputs, source, runner, send, pace);
        notes?.note({ asked: "" });
        return decided;
    } catch (error) {
        if (error instanceof Failure && OVER.test(error.reason)) notes?.note({ asked: "" });
        throw error;
    }
}

async function waited(
    pending: Pending,
    endsMs: number,
    inputs: Inputs,
    source: TokenSource,
    runner: Runner,
    send: Send,
    pace: Pace,
): Promise<Granted | Decision> {
    const mask = (secret: string) => runner.mask(secret);
    let intervalSeconds = pending.intervalSeconds;
    let saidMs = pace.nowMs();
    while (pace.nowMs() < endsMs) {
        await pace.sleep(intervalSeconds * 1000);
        const untilMs = pace.nowMs() + inputs.timeoutSeconds * 1000;
        const state = await persist(pace, untilMs, (timeoutMs) => poll(send, inputs, pending, timeoutMs));
        if (state === "slow_down") {
            intervalSeconds += SLOWER_SECONDS;
        } else if (state === "ready") {
            runner.info("It is claimed");
            const decided = await persist(pace, untilMs, async (timeoutMs) => {
                const token = await freshToken(send, source, inputs.audience, mask, timeoutMs);
                return await redeem(send, inputs, pending, token, mask, () => pace.nowMs(), timeoutMs);
            });
            if (decided !== "pending") return decided;
        }
        if (pace.nowMs() - saidMs >= SAY_SECONDS * 1000) {
            saidMs = pace.nowMs();
            const minutes = Math.max(0, Math.ceil((endsMs - saidMs) / 60_000));
            runner.info(`Nobody has claimed it yet; ${minutes} min left: ${pending.claimUri}`);
        }
    }
    throw new Failure(
        "expired_token",
        `Nobody claimed it in time: ${pending.claimUri}. Run this job again to ask anew`,
        {
            decisionId: pending.decisionId,
        },
    );
}

// Trying again until a deadline: only what may pass by itself (no answer, 429, 5xx), never a refusal.

import { Failure } from "./failure.ts";
import { NoAnswer, type Reply, Untrusted } from "./http.ts";
import { member, plain, word } from "./text.ts";

/** Time and chance, so that tests have neither. */
export interface Pace {
    nowMs(): number;
    sleep(ms: number): Promise<void>;
    /** From 0 up to 1. */
    random(): number;
}

export const realPace: Pace = {
    nowMs: () => Date.now(),
    sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    random: () => Math.random(),
};

const FIRST_WAIT_MS = 500;
const WAIT_MS_MAX = 8_000;
const ATTEMPT_MS_MAX = 30_000;

/** How a decision's id looks; what looks otherwise is not shown as one. */
export const DECISION_ID = /^[0-9a-f-]{1,64}$/;

/** This attempt failed in a way that may pass. */
export class Passing extends Error {
    readonly reason: string;
    readonly retryAfterSeconds: number | undefined;
    readonly decisionId: string;

    constructor(reason: string, text: string, retryAfterSeconds?: number, decisionId = "") {
        super(text);
        this.reason = reason;
        this.retryAfterSeconds = retryAfterSeconds;
        this.decisionId = decisionId;
    }
}

/** Runs `attempt`, with the milliseconds that it may take, until it does not throw `Passing` or time is up. */
export async function persist<T>(
    pace: Pace,
    deadlineMs: number,
    attempt: (timeoutMs: number) => Promise<T>,
): Promise<T> {
    for (let tries = 1; ; tries += 1) {
        try {
            return await attempt(Math.max(1, Math.min(ATTEMPT_MS_MAX, deadlineMs - pace.nowMs())));
        } catch (error) {
            if (!(error instanceof Passing)) throw error;
            const wait = waitMs(tries, error.retryAfterSeconds, pace.random());
            if (pace.nowMs() + wait >= deadlineMs) {
                const text = `${error.message}. Given up after ${tries} ${tries === 1 ? "try" : "tries"}`;
                throw new Failure(error.reason, text, { unavailable: true, decisionId: error.decisionId });
            }
            await pace.sleep(wait);
        }
    }
}

/** Half of the wait is chance, so that a matrix of jobs does not come back together; never before `Retry-After`. */
export function waitMs(tries: number, retryAfterSeconds: number | undefined, random: number): number {
    const full = Math.min(WAIT_MS_MAX, FIRST_WAIT_MS * 2 ** Math.min(tries - 1, 10));
    const jittered = full * (0.5 + random / 2);
    return retryAfterSeconds === undefined ? jittered : Math.max(retryAfterSeconds * 1000, 0) + jittered;
}

/** Asks once; throws `Passing` where another try may help. */
export async function answered(asked: Promise<Reply>, whom: string, reason: string): Promise<Reply> {
    let reply: Reply;
    try {
        reply = await asked;
    } catch (error) {
        if (error instanceof Untrusted) {
            throw new Failure("certificate_untrusted", `${whom} is not trusted: ${error.message}`);
        }
        if (error instanceof NoAnswer) throw new Passing(reason, `${whom} cannot be reached: ${error.message}`);
        throw error;
    }
    if (reply.status === 429 || reply.status >= 500) {
        const told = word(reply.body, "reason");
        const decisionId = member(reply.body, "decision_id", DECISION_ID);
        const said = [told ? `\`${told}\`` : "", decisionId ? `decision ${decisionId}` : ""].filter((part) => part);
        const description = plain(member(reply.body, "error_description", /\S/));
        const text =
            `${whom} answered ${reply.status}${said.length > 0 ? ` (${said.join(", ")})` : ""}` +
            (description === "" ? "" : `: ${description}`);
        throw new Passing(told || reason, text, reply.retryAfterSeconds, decisionId);
    }
    return reply;
}

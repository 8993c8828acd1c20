// The credential that the agent gives out: one, renewed before SDKs would ask for a fresh one, by one exchange at a time
// however many ask. Refusals end the renewing; what is left of the credential is still given.

import type { Aws, Granted } from "../broker.ts";
import { LEFT_SECONDS_MIN } from "../deliver.ts";
import { Failure } from "../failure.ts";
import { type Lease, leaseOf } from "../notes.ts";
import { time } from "../report.ts";
import type { Pace } from "../retry.ts";

/** SDKs begin to ask again when 15 minutes are left. */
const RENEW_SECONDS = 16 * 60;
/** After a round of tries in which nobody answered. */
const PAUSE_MS = 30_000;
/** An asker gets its answer before SDKs give up: the AWS one for Python after 2 s, and it asks three times. */
const WAIT_MS_MAX = 1_500;
const STOPPED = new Failure("agent_stopped", "The agent is stopped");

export interface Line {
    at: string;
    what: "started" | "renewed" | "refused" | "unavailable" | "ended";
    text: string;
    /** Of a refusal: for the step summary. */
    reason?: string;
    decisionId?: string;
    details?: string;
}
export type Log = (line: Line) => void;

export type Answer = { granted: Granted; aws: Aws } | { failure: Failure };

/** With how many seconds left a credential of this life is renewed: 16 minutes or a third of it, whichever comes first; but
 * short ones not at every look. */
export function renewAt(lifeSeconds: number): number {
    const third = lifeSeconds / 3;
    return RENEW_SECONDS <= lifeSeconds / 2 ? Math.max(third, RENEW_SECONDS) : third;
}

export class Keeper {
    private granted: Granted;
    private renewing: Promise<void> | undefined;
    private refused: Failure | undefined;
    private away: Failure | undefined;
    private notBeforeMs = 0;
    private held: Lease[];
    private stop = (): void => {};
    private readonly stopped = new Promise<void>((resolve) => {
        this.stop = resolve;
    });
    private readonly obtain: (pace: Pace) => Promise<Granted>;
    private readonly pace: Pace;
    private readonly log: Log;

    /** `obtain` is one round of tries: a credential, or a `Failure` whose `unavailable` says whether another may help. */
    constructor(first: Granted, obtain: (pace: Pace) => Promise<Granted>, pace: Pace, log: Log) {
        this.granted = first;
        this.held = [leaseOf(first)];
        this.obtain = obtain;
        this.pace = pace;
        this.log = log;
    }

    /** What an asker gets: from the cache at once, or within the time that SDKs wait. */
    async ask(): Promise<Answer> {
        this.look();
        if (!this.usable() && this.renewing !== undefined) {
            await Promise.race([this.renewing, this.pace.sleep(WAIT_MS_MAX)]);
        }
        const { granted } = this;
        if (this.usable() && granted.credential.kind === "aws") return { granted, aws: granted.credential };
        const wait = new Failure("renewing", "The credential is over and is being renewed; ask again", {
            unavailable: true,
        });
        return { failure: this.refused ?? this.away ?? wait };
    }

    /** Begins to renew, if it is time. */
    look(): void {
        const nowMs = this.pace.nowMs();
        const due = this.leftSeconds() <= renewAt(this.granted.expiresInSeconds);
        if (!due || this.renewing !== undefined || this.refused !== undefined || nowMs < this.notBeforeMs) return;
        this.renewing = this.renew().finally(() => {
            this.renewing = undefined;
        });
    }

    /** Every lease that may be alive, once nothing is under way that could open another: a request that is sent is waited for,
     * and no other try is made. */
    async leases(): Promise<Lease[]> {
        this.refused ??= STOPPED;
        this.stop();
        await this.renewing;
        return this.held.filter((lease) => lease.expiresAtMs > this.pace.nowMs());
    }

    private async renew(): Promise<void> {
        try {
            const granted = await this.obtain({
                nowMs: () => this.pace.nowMs(),
                random: () => this.pace.random(),
                sleep: async (ms) => {
                    await Promise.race([this.pace.sleep(ms), this.stopped]);
                    if (this.refused === STOPPED) throw STOPPED;
                },
            });
            this.held = [...this.held.filter((lease) => lease.expiresAtMs > this.pace.nowMs()), leaseOf(granted)];
            if (granted.expiresInSeconds < 2 * LEFT_SECONDS_MIN) {
                const text = `The renewed credential lives for ${granted.expiresInSeconds} s alone`;
                throw new Failure("too_short", text, { decisionId: granted.decisionId });
            }
            this.granted = granted;
            this.away = undefined;
            const { leaseId, decisionId, expiresAtMs } = granted;
            this.say("renewed", `until ${time(expiresAtMs)}, lease ${leaseId}, decision ${decisionId}`);
        } catch (error) {
            const failure = error instanceof Failure ? error : own(error);
            if (failure === STOPPED) return;
            if (failure.unavailable) {
                this.away = failure;
                this.notBeforeMs = this.pace.nowMs() + PAUSE_MS;
            } else {
                this.refused = failure;
            }
            const { reason, decisionId, details } = failure;
            this.say(failure.unavailable ? "unavailable" : "refused", failure.message, { reason, decisionId, details });
        }
    }

    private usable(): boolean {
        return this.leftSeconds() >= LEFT_SECONDS_MIN;
    }

    private leftSeconds(): number {
        return (this.granted.expiresAtMs - this.pace.nowMs()) / 1000;
    }

    private say(what: Line["what"], text: string, more: Partial<Line> = {}): void {
        this.log({ at: time(this.pace.nowMs()), what, text, ...more });
    }
}

/** An error of the agent itself: its kind alone, never a message that could hold what it worked on. */
function own(error: unknown): Failure {
    const kind = error instanceof Error ? error.name : typeof error;
    return new Failure("agent_failed", `An error of the agent itself (${kind})`, { unavailable: true });
}

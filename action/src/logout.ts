// The post step: the agent stops, the credential goes, the environment is as it was, the leases are ended. A job that was
// green stays so: everything here is a courtesy, since credentials end by themselves.

import { readFileSync } from "node:fs";
import type { Line } from "./agent/keeper.ts";
import { LOG_FILE } from "./agent/order.ts";
import { revoke } from "./broker.ts";
import { undo } from "./deliver.ts";
import { Failure } from "./failure.ts";
import { type Send, trust } from "./http.ts";
import { type Lease, Notes } from "./notes.ts";
import { failureSummary, summarize, time } from "./report.ts";
import { type Pace, persist } from "./retry.ts";
import type { Runner } from "./runner.ts";
import { plain, SECRET_CHARS_MIN } from "./text.ts";

const TRY_FOR_MS = 15_000;
/** The agent finishes an exchange that is under way first. */
const STOP_MS_MAX = 45_000;
const TITLE = "claimbound: clean-up";
const LOG_LINES_SHOWN = 50;

export async function logout(runner: Runner, send: Send, pace: Pace): Promise<void> {
    const unremoved = () => runner.warn("Files or variables of the credential could not all be removed", TITLE);
    let notes: Notes | undefined;
    try {
        notes = Notes.find(runner);
    } catch {
        unremoved();
    }
    if (notes === undefined) return;
    const { noted } = notes;
    trust(noted.ca);
    const leases = [...(await stopped(notes, runner, send, pace)), ...noted.leases];
    try {
        undo(noted.changes, runner);
    } catch {
        unremoved();
    }
    try {
        notes.remove();
    } catch {
        unremoved();
    }
    if (noted.asked !== "") {
        runner.mask(noted.asked);
        await tried(pace, () => revoke(send, noted.brokerUrl, noted.asked)).then(
            () => runner.info("The request that waited for an approver is withdrawn"),
            (error: Error) => {
                const text = "The request that waits for an approver was not withdrawn and runs out by itself";
                runner.warn(`${text}. ${error.message}`, TITLE);
            },
        );
    }
    const known = new Map(leases.map((lease) => [lease.leaseId, lease]));
    for (const lease of known.values()) await end(lease, noted.brokerUrl, runner, send, pace);
}

async function end(lease: Lease, brokerUrl: string, runner: Runner, send: Send, pace: Pace): Promise<void> {
    runner.mask(lease.handle);
    const ends = time(lease.expiresAtMs);
    const name = plain(lease.leaseId);
    if (pace.nowMs() >= lease.expiresAtMs) {
        runner.info(`Lease ${name} is over since ${ends}; there is nothing to end`);
        return;
    }
    const what = lease.kind === "aws" ? "AWS key" : "JWT";
    await tried(pace, () => revoke(send, brokerUrl, lease.handle)).then(
        () => runner.info(`Lease ${name} is ended. A copied ${what} may be accepted until ${ends}`),
        (error: Error) => {
            runner.warn(`The lease was not ended at the broker and runs out by itself. ${error.message}`, TITLE);
        },
    );
}

/** Stops the agent. What it leaves to be ended; what happened to it is told. */
async function stopped(notes: Notes, runner: Runner, send: Send, pace: Pace): Promise<Lease[]> {
    const { agent } = notes.noted;
    if (agent === null) return [];
    runner.mask(agent.control);
    let leases: Lease[] = [];
    try {
        const headers = { authorization: agent.control };
        const reply = await send({ method: "POST", url: `${agent.url}/stop`, headers, timeoutMs: STOP_MS_MAX });
        const said = (reply.body as { leases?: unknown } | undefined)?.leases;
        if (reply.status !== 200 || !Array.isArray(said)) throw new Error(`it answered ${reply.status}`);
        // If it died, anybody of this machine may answer at its port.
        leases = said.filter(isLease);
        for (const { handle } of leases) runner.mask(handle);
        runner.info("The agent is stopped");
    } catch {
        const text = "The agent does not answer any more; leases that it opened run out by themselves";
        runner.warn(text, TITLE);
    }
    await told(notes.path(LOG_FILE), runner, pace).catch(() => runner.warn("The agent's log cannot be read", TITLE));
    return leases;
}

function isLease(value: unknown): value is Lease {
    const { handle, leaseId, kind, expiresAtMs } = (value ?? {}) as Record<string, unknown>;
    const texts = [handle, leaseId, kind].every((text) => typeof text === "string");
    const ends = typeof expiresAtMs === "number" && !Number.isNaN(new Date(expiresAtMs).getTime());
    return texts && ends && String(handle).length >= SECRET_CHARS_MIN;
}

async function told(path: string, runner: Runner, pace: Pace): Promise<void> {
    let lines: string[];
    try {
        lines = readFileSync(path, "utf8").split("\n");
    } catch {
        // It had nothing to say, or somebody has removed it.
        return;
    }
    const read = lines.slice(-LOG_LINES_SHOWN).flatMap((line) => {
        try {
            return [JSON.parse(line) as Line];
        } catch {
            return [];
        }
    });
    for (const { at, what, text } of read) runner.info(`agent: ${plain(at)} ${plain(what)}: ${plain(text)}`);
    const last = read.findLast(({ what }) => what !== "started");
    if (last?.what !== "refused" && last?.what !== "unavailable") return;
    const { reason = "", text, decisionId = "", details = "" } = last;
    const since = `The agent could not renew the credential (${last.at}, now ${time(pace.nowMs())}): ${text}`;
    runner.warn(since, "claimbound: not renewed");
    const failure = new Failure(reason, since, { decisionId, details });
    await summarize(runner, failureSummary(failure, "not renewed"), true);
}

async function tried(pace: Pace, attempt: () => Promise<void>): Promise<void> {
    await persist(pace, pace.nowMs() + TRY_FOR_MS, attempt);
}

// The main step, in order. Everything that can fail without a token fails first; a token is asked for only once the
// broker is who it should be; what is issued is masked, then written down for the post step, then delivered.

import { wait } from "./ceremony.ts";
import { compare, type Decision, exchange, type Granted, revoke } from "./broker.ts";
import { admit, deliver, precheck } from "./deliver.ts";
import { Failure } from "./failure.ts";
import type { Send } from "./http.ts";
import { type Inputs, readInputs } from "./inputs.ts";
import { freshToken, tokenSource } from "./job.ts";
import { dryRunSummary, failureSummary, grantedSummary, time } from "./report.ts";
import { type Pace, persist } from "./retry.ts";
import type { Runner } from "./runner.ts";

/** What the post step must end. */
export interface Lease {
    brokerUrl: string;
    handle: string;
    leaseId: string;
    kind: string;
    expiresAtMs: number;
}
export const LEASE = "lease";

const TITLE = "claimbound";

/** The whole main step: outputs, summary and exit code included. Throws nothing that it knows. */
export async function login(runner: Runner, send: Send, pace: Pace): Promise<void> {
    runner.output("available", "false");
    let skip = false;
    try {
        const inputs = readInputs((name) => runner.input(name));
        skip = inputs.onUnavailable === "skip";
        await run(inputs, runner, send, pace);
    } catch (error) {
        if (!(error instanceof Failure)) throw error;
        runner.output("reason", error.reason);
        runner.output("decision-id", error.decisionId);
        const skipped = skip && error.unavailable;
        const title = skipped ? `${TITLE}: no credential, job goes on` : `${TITLE}: no credential`;
        if (skipped) runner.warn(error.message, title);
        else runner.fail(error.message, title);
        await runner.summary(failureSummary(error, skipped ? "no credential, job goes on" : "no credential"));
    }
}

async function run(inputs: Inputs, runner: Runner, send: Send, pace: Pace): Promise<void> {
    const source = tokenSource(runner.env);
    runner.mask(source.bearer);
    precheck(inputs, runner);
    const deadlineMs = pace.nowMs() + inputs.timeoutSeconds * 1000;
    await persist(pace, deadlineMs, (timeoutMs) => compare(send, inputs, timeoutMs));
    const mask = (secret: string) => runner.mask(secret);
    const answer = await persist(pace, deadlineMs, async (timeoutMs) => {
        const began = pace.nowMs();
        const token = await freshToken(send, source, inputs.audience, mask, timeoutMs);
        const left = Math.max(1, timeoutMs - (pace.nowMs() - began));
        return await exchange(send, inputs, token, mask, () => pace.nowMs(), left);
    });
    const waits = "authReqId" in answer;
    const decided = waits ? await wait(answer, inputs, source, runner, send, pace) : answer;
    runner.output("decision-id", decided.decisionId);
    runner.output("role", decided.role);
    runner.output("mapping", decided.mapping);
    if (isGranted(decided)) await give(decided, inputs, runner, send);
    else await report(decided, runner);
}

async function report(decision: Decision, runner: Runner): Promise<void> {
    runner.output("reason", "dry_run");
    const { role, mapping, expiresInSeconds } = decision;
    runner.info(`Dry run: this job would get ${role} by ${mapping} for ${expiresInSeconds} s`);
    await runner.summary(dryRunSummary(decision));
}

async function give(granted: Granted, inputs: Inputs, runner: Runner, send: Send): Promise<void> {
    const lease: Lease = {
        brokerUrl: inputs.brokerUrl,
        handle: granted.handle,
        leaseId: granted.leaseId,
        kind: granted.credential.kind,
        expiresAtMs: granted.expiresAtMs,
    };
    runner.save(LEASE, JSON.stringify(lease));
    try {
        admit(granted, inputs);
        deliver(granted, inputs, runner);
    } catch (error) {
        // Nobody will use it; if this fails, the post step tries again.
        const ended = await revoke(send, inputs.brokerUrl, granted.handle).then(
            () => true,
            () => false,
        );
        if (ended) runner.save(LEASE, "");
        if (error instanceof Failure) {
            throw new Failure(error.reason, error.message, { decisionId: granted.decisionId });
        }
        throw error;
    }
    runner.output("lease-id", granted.leaseId);
    runner.output("expires-at", time(granted.expiresAtMs));
    runner.output("reason", "");
    runner.output("available", "true");
    runner.info(`This job has ${granted.role} by ${granted.mapping} until ${time(granted.expiresAtMs)}`);
    runner.info(`Lease ${granted.leaseId}, decision ${granted.decisionId}`);
    await runner.summary(grantedSummary(granted));
}

function isGranted(decided: Granted | Decision): decided is Granted {
    return "credential" in decided;
}

// The main step, in order. Everything that can fail without a token fails first; a token is asked for only once the
// broker is who it should be; what is issued is masked, then written down for the post step, then delivered.

import { wait } from "./ceremony.ts";
import { compare, type Decision, exchange, type Granted, revoke } from "./broker.ts";
import { admit, deliver, precheck, remember } from "./deliver.ts";
import { claimsOf, explained, skewed } from "./diagnose.ts";
import { Failure } from "./failure.ts";
import { type Send, trust } from "./http.ts";
import { type Inputs, type Mode, readInputs } from "./inputs.ts";
import { freshToken, tokenSource, untrusted } from "./job.ts";
import { Notes } from "./notes.ts";
import { dryRunSummary, failureSummary, grantedSummary, summarize, time } from "./report.ts";
import { type Pace, persist } from "./retry.ts";
import type { Runner } from "./runner.ts";

const TITLE = "claimbound";

/** The whole main step: outputs, summary and exit code included. Throws nothing that it knows. */
export async function login(runner: Runner, send: Send, pace: Pace): Promise<void> {
    runner.output("available", "false");
    const skip = runner.input("on-unavailable") === "skip";
    try {
        const inputs = inputsOf(runner);
        trust(inputs.ca);
        await run(inputs, runner, send, pace);
    } catch (error) {
        if (!(error instanceof Failure)) throw error;
        runner.output("reason", error.reason);
        runner.output("decision-id", error.decisionId);
        const skipped = skip && error.unavailable;
        const title = skipped ? `${TITLE}: no credential, job goes on` : `${TITLE}: no credential`;
        if (skipped) runner.warn(error.message, title);
        else runner.fail(error.message, title);
        const summary = failureSummary(error, skipped ? "no credential, job goes on" : "no credential");
        await summarize(runner, summary, true);
    }
}

/** GitHub gives jobs of forks no variables, either: an empty `broker-url` is no mistake of theirs. */
function inputsOf(runner: Runner): Inputs {
    try {
        return readInputs((name) => runner.input(name));
    } catch (error) {
        throw untrusted(runner.env) ?? error;
    }
}

async function run(inputs: Inputs, runner: Runner, send: Send, pace: Pace): Promise<void> {
    const source = tokenSource(runner.env);
    runner.mask(source.bearer);
    precheck(inputs, runner);
    const deadlineMs = pace.nowMs() + inputs.timeoutSeconds * 1000;
    const clock = await persist(pace, deadlineMs, (timeoutMs) => compare(send, inputs, timeoutMs));
    const skew = skewed(pace.nowMs(), clock);
    if (skew !== undefined) runner.warn(skew, `${TITLE}: clocks differ`);
    // Nothing is left by a dry run.
    const notes = inputs.dryRun ? undefined : Notes.open(runner, inputs.brokerUrl, inputs.ca);
    const mask = (secret: string) => runner.mask(secret);
    let claims = {};
    const answer = await persist(pace, deadlineMs, async (timeoutMs) => {
        const began = pace.nowMs();
        const token = await freshToken(send, source, inputs.audience, mask, timeoutMs);
        claims = claimsOf(token);
        const left = Math.max(1, timeoutMs - (pace.nowMs() - began));
        return await exchange(send, inputs, token, mask, () => pace.nowMs(), left);
    }).catch((error: unknown) => {
        throw error instanceof Failure ? explained(error, claims, runner.env, clock) : error;
    });
    const waits = "authReqId" in answer;
    const decided = waits ? await wait(answer, inputs, source, notes, runner, send, pace) : answer;
    runner.output("decision-id", decided.decisionId);
    runner.output("role", decided.role);
    runner.output("mapping", decided.mapping);
    if (notes !== undefined && isGranted(decided)) await give(decided, inputs, notes, runner, send);
    else await report(decided, runner);
}

async function report(decision: Decision, runner: Runner): Promise<void> {
    runner.output("reason", "dry_run");
    const { role, mapping, expiresInSeconds, pending } = decision;
    const once = pending ? ", once somebody has claimed it" : "";
    runner.info(`Dry run: this job would get ${role} by ${mapping} for ${expiresInSeconds} s${once}`);
    await summarize(runner, dryRunSummary(decision), false);
}

async function give(granted: Granted, inputs: Inputs, notes: Notes, runner: Runner, send: Send): Promise<void> {
    remember(granted, notes);
    let mode: Mode;
    try {
        admit(granted, inputs, runner);
        mode = await deliver(granted, inputs, notes, runner);
    } catch (error) {
        // Nobody will use it; if this fails, the post step tries again.
        const ended = await revoke(send, inputs.brokerUrl, granted.handle).then(
            () => true,
            () => false,
        );
        if (ended) notes.note({ leases: [] });
        if (error instanceof Failure) {
            throw new Failure(error.reason, error.message, { decisionId: granted.decisionId });
        }
        throw error;
    }
    runner.output("lease-id", granted.leaseId);
    runner.output("expires-at", time(granted.expiresAtMs));
    runner.output("expires-in-seconds", String(granted.expiresInSeconds));
    if (granted.credential.kind === "aws") runner.output("account-id", granted.credential.accountId);
    runner.output("reason", "");
    runner.output("available", "true");
    const until = time(granted.expiresAtMs);
    const renewed = mode === "agent" ? ", and the agent renews it until the job ends" : "";
    runner.info(`This job has ${granted.role} by ${granted.mapping} until ${until}${renewed} (mode \`${mode}\`)`);
    runner.info(`Lease ${granted.leaseId}, decision ${granted.decisionId}`);
    const job = inputs.jobTimeoutSeconds;
    if (mode !== "agent" && job !== undefined && job > granted.expiresInSeconds) {
        const kind = granted.credential.kind === "aws" ? "; `mode: agent` renews it" : "";
        const text = `This job may take ${job} s (\`job-timeout\`), and its credential ends after ${granted.expiresInSeconds} s`;
        runner.warn(`${text}${kind}. A longer \`duration\` helps as far as the mapping lets it`, `${TITLE}: too short`);
    }
    await summarize(runner, grantedSummary(granted, mode), false);
}

function isGranted(decided: Granted | Decision): decided is Granted {
    return "credential" in decided;
}

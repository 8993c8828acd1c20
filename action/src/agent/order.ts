// What the main step tells the agent that it starts, and how: by standard input, since arguments and environments of
// processes can be seen by others.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Granted } from "../broker.ts";
import { Failure } from "../failure.ts";
import type { Inputs } from "../inputs.ts";
import type { TokenSource } from "../job.ts";
import { type Agent, type Notes, writePrivately } from "../notes.ts";

export interface Order {
    inputs: Inputs;
    source: TokenSource;
    granted: Granted;
    /** What askers show. Also the agent's life: it ends when the file is gone. */
    authorization: string;
    tokenFile: string;
    control: string;
    logFile: string;
    deadlineMs: number;
    /** How often it looks at the clock. */
    lookMs: number;
}

/** A job of GitHub's own runners lives no longer, and its right to ask for tokens ends with it. */
const JOB_SECONDS_MAX = 6 * 3600;
const LOOK_MS = 5_000;
const START_MS_MAX = 20_000;
/** Of the environment, what its connections depend on; a runner of one's own ends what has its id when the job ends. */
const INHERITED =
    /^(https?_proxy|no_proxy|node_extra_ca_certs|node_options|node_use_system_ca|ssl_cert_(file|dir)|systemroot|te?mp|tmpdir|runner_tracking_id)$/i;
export const LOG_FILE = "agent.log";

/** Starts it. Throws if it does not come up. */
export async function startAgent(
    program: string,
    granted: Granted,
    inputs: Inputs,
    source: TokenSource,
    notes: Notes,
    env: Record<string, string | undefined>,
    nowMs: number,
    lookMs = LOOK_MS,
): Promise<{ agent: Agent; tokenFile: string }> {
    const secret = () => randomBytes(32).toString("hex");
    const [authorization, control] = [secret(), secret()];
    const tokenFile = notes.path("authorization-token");
    writePrivately(tokenFile, authorization);
    const deadlineMs = nowMs + (inputs.jobTimeoutSeconds ?? JOB_SECONDS_MAX) * 1000;
    const logFile = notes.path(LOG_FILE);
    const order: Order = {
        // Where the main step had a choice, the agent has none: the same role again.
        inputs: { ...inputs, role: granted.role },
        source,
        granted,
        authorization,
        tokenFile,
        control,
        logFile,
        deadlineMs,
        lookMs,
    };
    const inherited = Object.fromEntries(Object.entries(env).filter(([name]) => INHERITED.test(name)));
    const child = spawn(process.execPath, [program], {
        cwd: notes.directory,
        detached: true,
        env: inherited,
        stdio: ["pipe", "pipe", "ignore"],
        windowsHide: true,
    });
    const port = await new Promise<number>((resolve, reject) => {
        const failed = (how: string) => {
            clearTimeout(timer);
            child.kill();
            reject(new Failure("agent_failed", `The agent that renews the credential did not start: ${how}`));
        };
        const timer = setTimeout(() => failed("it took too long"), START_MS_MAX);
        let said = "";
        child.once("error", () => failed("Node.js cannot be run again here"));
        child.once("exit", () => failed("it ended at once"));
        child.stdin.on("error", () => {});
        child.stdin.end(JSON.stringify(order));
        child.stdout.on("data", (chunk: Buffer) => {
            said += chunk.toString("utf8");
            const found = /^(\d{1,5})\n/.exec(said)?.[1];
            if (found === undefined) return;
            clearTimeout(timer);
            resolve(Number(found));
        });
    });
    // From here on it lives without this process.
    child.removeAllListeners();
    child.stdout.destroy();
    child.unref();
    return { agent: { url: `http://127.0.0.1:${port}`, control }, tokenFile };
}

/** The agent's program: beside the main step's. */
export function agentProgram(): string {
    return join(__dirname, "agent.cjs");
}

// The runner, as far as this action touches it: an interface, so that tests can look at what was told to it.

import * as core from "@actions/core";
import { agentProgram, startAgent } from "./agent/order.ts";
import type { Granted } from "./broker.ts";
import type { Inputs } from "./inputs.ts";
import { tokenSource } from "./job.ts";
import type { Agent, Notes } from "./notes.ts";
import { forms, unheard } from "./text.ts";

export interface Runner {
    env: Record<string, string | undefined>;
    input(name: string): string;
    mask(secret: string): void;
    output(name: string, value: string): void;
    variable(name: string, value: string): void;
    save(name: string, value: string): void;
    saved(name: string): string;
    info(text: string): void;
    warn(text: string, title: string): void;
    fail(text: string, title: string): void;
    summary(html: string): Promise<void>;
    /** Starts a process that outlives the step. */
    startAgent(granted: Granted, inputs: Inputs, notes: Notes): Promise<{ agent: Agent; tokenFile: string }>;
}

export const runner: Runner = {
    env: process.env,
    input: (name) => core.getInput(name),
    mask: (secret) => {
        for (const form of forms(secret)) core.setSecret(form);
    },
    output: (name, value) => core.setOutput(name, value),
    variable: (name, value) => core.exportVariable(name, value),
    save: (name, value) => core.saveState(name, value),
    saved: (name) => core.getState(name),
    info: (text) => core.info(unheard(text)),
    warn: (text, title) => core.warning(text, { title }),
    fail: (text, title) => {
        core.error(text, { title });
        process.exitCode = 1;
    },
    summary: async (html) => {
        try {
            await core.summary.addRaw(html).write();
        } catch {
            // A runner without summaries, or whose file is gone, is no reason to fail: the log has it all.
        }
    },
    startAgent: (granted, inputs, notes) =>
        startAgent(agentProgram(), granted, inputs, tokenSource(process.env), notes, process.env, Date.now()),
};

/** Where an error of the action itself happened: its kind and place, never a message that could hold what it worked on. */
export function place(error: unknown): string {
    const stack = error instanceof Error ? (error.stack ?? "").split("\n    at ").slice(1, 4).join(" < ") : "";
    const kind = error instanceof Error ? error.name : typeof error;
    return `(${kind}): please report it with this place: ${stack}`;
}

/** Ends the process once everything is written, whatever connection an answerless server still holds open. */
export function leave(): void {
    process.stdout.write("", () => process.exit());
}

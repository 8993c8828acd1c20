// What the post step must undo, in a folder of this login that only its owner can read. The runner's own state file is
// readable by others on some machines, so it holds the folder's path alone.

import { mkdtempSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, sep } from "node:path";
import type { Granted } from "./broker.ts";
import { Failure } from "./failure.ts";
import type { Runner } from "./runner.ts";

/** What the post step must end. */
export interface Lease {
    handle: string;
    leaseId: string;
    kind: string;
    expiresAtMs: number;
}

/** A variable that was set: what it held before (`null`: nothing), and the hash of what it was given. */
export interface Change {
    name: string;
    before: string | null;
    digest: string;
}

/** An agent that runs. */
export interface Agent {
    /** Ends in no slash. */
    url: string;
    /** What lets somebody stop it; a secret. */
    control: string;
}

export interface Noted {
    brokerUrl: string;
    /** Certificates that the broker is trusted by, PEM; empty for none. */
    ca: string;
    /** Names a request that waits for a person; a secret. */
    asked: string;
    leases: Lease[];
    changes: Change[];
    agent: Agent | null;
}

const FOLDER_PREFIX = "claimbound-";
const STATE = "notes";
const FILE = "notes.json";

export class Notes {
    readonly directory: string;
    readonly noted: Noted;

    private constructor(directory: string, noted: Noted) {
        this.directory = directory;
        this.noted = noted;
    }

    /** Makes the folder, and tells the post step where it is. */
    static open(runner: Runner, brokerUrl: string, ca: string): Notes {
        const directory = mkdtempSync(join(temporaryFolder(runner.env), FOLDER_PREFIX));
        runner.save(STATE, directory);
        const notes = new Notes(directory, { brokerUrl, ca, asked: "", leases: [], changes: [], agent: null });
        notes.note({});
        return notes;
    }

    /** Those of the main step, if it made any. Throws if they cannot be read. */
    static find(runner: Runner): Notes | undefined {
        const directory = runner.saved(STATE);
        if (directory === "" || !basename(directory).startsWith(FOLDER_PREFIX)) return undefined;
        return new Notes(directory, JSON.parse(readFileSync(join(directory, FILE), "utf8")) as Noted);
    }

    /** Writes down more; the file is whole at any time. */
    note(more: Partial<Noted>): void {
        Object.assign(this.noted, more);
        writePrivately(join(this.directory, FILE), JSON.stringify(this.noted));
    }

    path(name: string): string {
        return join(this.directory, name);
    }

    /** The folder goes, with everything in it. */
    remove(): void {
        rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
    }
}

/** What is to be ended of this grant. */
export function leaseOf(granted: Granted): Lease {
    const { handle, leaseId, expiresAtMs } = granted;
    return { handle, leaseId, expiresAtMs, kind: granted.credential.kind };
}

/** A file that nobody else can read, replaced as a whole. */
export function writePrivately(path: string, text: string): void {
    const half = `${path}.new`;
    rmSync(half, { force: true });
    writeFileSync(half, text, { flag: "wx", mode: 0o600 });
    renameSync(half, path);
}

/** The job's own temporary folder, which is outside the workspace: what stands there is neither committed nor uploaded. */
export function temporaryFolder(env: Runner["env"]): string {
    const folder = real(env.RUNNER_TEMP || tmpdir());
    if (folder === undefined) {
        const text = `\`RUNNER_TEMP\` is \`${env.RUNNER_TEMP}\`, which is no folder here`;
        throw new Failure("runner_unfit", `${text}. What this login leaves for its end is kept there`);
    }
    const workspace = real(env.GITHUB_WORKSPACE);
    if (workspace !== undefined && `${folder}${sep}`.startsWith(`${workspace}${sep}`)) {
        const text = "`RUNNER_TEMP` is inside the workspace, where files get committed and uploaded";
        throw new Failure("runner_unfit", `${text}. Configure the runner to keep them apart`);
    }
    return folder;
}

function real(path: string | undefined): string | undefined {
    try {
        return path ? realpathSync(path) : undefined;
    } catch {
        return undefined;
    }
}

// AWS credentials that a job has besides ours. AWS clients look in a fixed order and take the first that they find, so a
// credential delivered further down that order would be ignored without a word:
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html

import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Mode } from "./inputs.ts";

type Environment = Record<string, string | undefined>;

/** Keys of a default profile that give it a credential. */
const GIVING =
    /^\s*(aws_access_key_id|role_arn|credential_process|sso_session|sso_start_url|web_identity_token_file)\s*=/;
const FILE_CHARS_MAX = 256 * 1024;

/** What AWS clients would take instead of a credential that is delivered like this, in their order. */
export function winners(mode: Mode, env: Environment): string[] {
    const set = (name: string) => (env[name] ?? "") !== "";
    const keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].filter(set);
    if (mode === "profile") return keys;
    if (mode !== "agent") return [];
    const found = [...keys, ...["AWS_PROFILE", "AWS_DEFAULT_PROFILE"].filter(set)];
    if (set("AWS_ROLE_ARN") && set("AWS_WEB_IDENTITY_TOKEN_FILE")) found.push("AWS_WEB_IDENTITY_TOKEN_FILE");
    // A named profile is said already, and whatever file has it is that profile's.
    if (!set("AWS_PROFILE")) found.push(...defaultProfiles(env));
    if (set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")) found.push("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    return found;
}

/** What some AWS clients, and not all, would take instead. */
export function contenders(mode: Mode, env: Environment): string[] {
    return mode === "env" ? ["AWS_PROFILE"].filter((name) => (env[name] ?? "") !== "") : [];
}

/** Files whose default profile has a credential. */
function defaultProfiles(env: Environment): string[] {
    const home = env.HOME || env.USERPROFILE || homedir();
    const files = [
        env.AWS_SHARED_CREDENTIALS_FILE || join(home, ".aws", "credentials"),
        env.AWS_CONFIG_FILE || join(home, ".aws", "config"),
    ];
    return files.filter(givesByDefault);
}

function givesByDefault(path: string): boolean {
    let text: string;
    try {
        text = readFileSync(path, "utf8").slice(0, FILE_CHARS_MAX);
    } catch {
        return false;
    }
    let inside = false;
    for (const line of text.split(/\r?\n/)) {
        const section = /^\s*\[\s*(?:profile\s+)?([^\]]*?)\s*\]/.exec(line)?.[1];
        if (section !== undefined) inside = section === "default";
        else if (inside && GIVING.test(line)) return true;
    }
    return false;
}

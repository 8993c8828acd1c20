// The job as the runner shows it: whether it may have an OIDC token at all, and if not, why.

import { readFileSync } from "node:fs";
import { Failure } from "./failure.ts";
import type { Send } from "./http.ts";
import { answered } from "./retry.ts";
import { plain } from "./text.ts";

type Environment = Record<string, string | undefined>;

/** The runner's side of GitHub's issuer. */
export interface TokenSource {
    url: string;
    bearer: string;
}

/** Where to ask for this job's token. Throws the text that fits the job if it may have none. */
export function tokenSource(env: Environment): TokenSource {
    const source = found(env);
    if (source === undefined) throw untrusted(env) ?? noPermission(env);
    return source;
}

/** Why nobody can have a token in this run, whatever its workflow says; `undefined` where that is not so. */
export function untrusted(env: Environment): Failure | undefined {
    return found(env) === undefined ? (fromFork(env) ?? fromDependabot(env)) : undefined;
}

function found(env: Environment): TokenSource | undefined {
    const url = env.ACTIONS_ID_TOKEN_REQUEST_URL ?? "";
    const bearer = env.ACTIONS_ID_TOKEN_REQUEST_TOKEN ?? "";
    return url !== "" && bearer !== "" && URL.canParse(url) ? { url, bearer } : undefined;
}

/** A fresh token for this audience. */
export async function freshToken(
    send: Send,
    source: TokenSource,
    audience: string,
    mask: (secret: string) => void,
    timeoutMs: number,
): Promise<string> {
    const url = new URL(source.url);
    url.searchParams.set("audience", audience);
    const headers = { authorization: `bearer ${source.bearer}` };
    const asked = send({ method: "GET", url: url.href, headers, timeoutMs });
    const reply = await answered(asked, "GitHub's token service", "ci_unavailable");
    const token = (reply.body as { value?: unknown } | null | undefined)?.value;
    if (reply.status === 200 && typeof token === "string" && /^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) {
        mask(token);
        mask(token.slice(token.lastIndexOf(".") + 1));
        return token;
    }
    throw new Failure(
        "ci_refused",
        `GitHub gave this job no OIDC token (${reply.status}). Its permissions allow one; if it happens again, look at ` +
            "GitHub's status, and at whether the organisation limits OIDC tokens",
    );
}

function fromFork(env: Environment): Failure | undefined {
    if (!(env.GITHUB_EVENT_NAME ?? "").startsWith("pull_request") || env.GITHUB_EVENT_NAME === "pull_request_target") {
        return undefined;
    }
    const pullRequest = (event(env) as { pull_request?: { head?: { repo?: { full_name?: unknown } | null } } })
        ?.pull_request;
    const head = pullRequest?.head;
    // A fork that was deleted since has no repository any more.
    if (head === undefined || head.repo?.full_name === env.GITHUB_REPOSITORY) return undefined;
    const fork = head.repo === null ? "a deleted fork" : `the fork \`${plain(head.repo?.full_name)}\``;
    return new Failure(
        "fork_pull_request",
        `This pull request comes from ${fork}, and GitHub gives jobs of forks no OIDC token, whatever their permissions ` +
            "say. Run what needs a credential after the merge, or on a branch of this repository; to let this job go on " +
            "without one, set `on-unavailable: skip` and ask for `steps.<id>.outputs.available`. Do not change the " +
            "trigger to `pull_request_target`: it would run the fork's code with this repository's rights",
        { unavailable: true },
    );
}

function fromDependabot(env: Environment): Failure | undefined {
    if (env.GITHUB_ACTOR !== "dependabot[bot]") return undefined;
    return new Failure(
        "dependabot",
        "Dependabot started this run, and GitHub gives such runs a read-only token: no OIDC token came with it. To let this job go on without a credential, set `on-unavailable: skip` and ask for `steps.<id>.outputs.available`",
        { unavailable: true },
    );
}

/** Runners that are not GitHub's, by the variable that they set; some of them are made of act. */
const ELSEWHERE: [string, string][] = [
    ["FORGEJO_ACTIONS", "This is Forgejo, where the job has `enable-openid-connect: true` instead of the permission"],
    ["GITEA_ACTIONS", "This is Gitea: whether its jobs may have OIDC tokens, whoever runs it knows"],
    ["ACT", "This is act, which has no OIDC tokens whatever the permissions say: such a job runs at GitHub alone"],
];

function noPermission(env: Environment): Failure {
    const job = plain(env.GITHUB_JOB) || "this job";
    const file = /^[^/]+\/[^/]+\/(.+)@/.exec(env.GITHUB_WORKFLOW_REF ?? "")?.[1];
    const workflow = file === undefined ? "the workflow" : `\`${plain(file)}\``;
    const [, elsewhere = ""] = ELSEWHERE.find(([mark]) => (env[mark] ?? "") !== "") ?? [];
    return new Failure(
        "permission_missing",
        `The job \`${job}\` has no permission to ask GitHub for an OIDC token. Add to it:\n\n` +
            "    permissions:\n      id-token: write\n      contents: read\n\n" +
            `If \`${job}\` stands in a reusable workflow, its caller's permissions are the limit: the calling job in ` +
            `${workflow}, the one with \`uses:\`, needs these lines too${elsewhere && `\n${elsewhere}`}`,
    );
}

function event(env: Environment): unknown {
    try {
        return JSON.parse(readFileSync(env.GITHUB_EVENT_PATH ?? "", "utf8"));
    } catch {
        return undefined;
    }
}

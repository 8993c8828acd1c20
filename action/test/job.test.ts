import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Failure } from "../src/failure.ts";
import { tokenSource } from "../src/job.ts";

const JOB = {
    GITHUB_JOB: "deploy",
    GITHUB_REPOSITORY: "acme/payments-api",
    GITHUB_WORKFLOW_REF: "acme/payments-api/.github/workflows/ci.yml@refs/heads/main",
    GITHUB_EVENT_NAME: "push",
};

function why(env: Record<string, string>): Failure {
    try {
        tokenSource({ ...JOB, ...env });
    } catch (error) {
        return error as Failure;
    }
    throw new Error("there is a token");
}

function event(head: object): Record<string, string> {
    const path = join(mkdtempSync(join(tmpdir(), "event-")), "event.json");
    writeFileSync(path, JSON.stringify({ pull_request: { head } }));
    return { GITHUB_EVENT_NAME: "pull_request", GITHUB_EVENT_PATH: path };
}

test("with both variables there is a source", () => {
    const env = { ACTIONS_ID_TOKEN_REQUEST_URL: "https://x.example/t", ACTIONS_ID_TOKEN_REQUEST_TOKEN: "t" };
    assert.deepEqual(tokenSource(env), { url: "https://x.example/t", bearer: "t" });
});

test("without the permission the text names the lines, the job, and the calling job", () => {
    for (const env of [{}, { ACTIONS_ID_TOKEN_REQUEST_URL: "", ACTIONS_ID_TOKEN_REQUEST_TOKEN: "" }]) {
        const failure = why(env);
        assert.equal(failure.reason, "permission_missing");
        assert.equal(failure.unavailable, false, "a mistake in the workflow is never skipped");
        for (const part of ["`deploy`", "id-token: write", "the calling job in `.github/workflows/ci.yml`"]) {
            assert.ok(failure.message.includes(part), failure.message);
        }
        assert.doesNotMatch(failure.message, /act|Forgejo/);
    }
});

test("runners that are not GitHub's are told what is otherwise with them", () => {
    assert.match(why({ ACT: "true" }).message, /too\nThis is act, which has no OIDC tokens/);
    const forgejo = why({ FORGEJO_ACTIONS: "true", GITEA_ACTIONS: "true", ACT: "true" }).message;
    assert.match(forgejo, /`enable-openid-connect: true` instead/);
    assert.doesNotMatch(forgejo, /Gitea|act,/);
});

test("a fork's pull request is told that it is one, and not to use pull_request_target", () => {
    const failure = why(event({ repo: { full_name: "mallory/payments-api" } }));
    assert.deepEqual([failure.reason, failure.unavailable], ["fork_pull_request", true]);
    assert.match(failure.message, /the fork `mallory\/payments-api`/);
    assert.match(failure.message, /Do not change the trigger to `pull_request_target`/);
    assert.equal(why(event({ repo: null })).reason, "fork_pull_request");
});

test("a pull request of the repository itself lacks the permission", () => {
    assert.equal(why(event({ repo: { full_name: "acme/payments-api" } })).reason, "permission_missing");
    const target = {
        ...event({ repo: { full_name: "mallory/payments-api" } }),
        GITHUB_EVENT_NAME: "pull_request_target",
    };
    assert.equal(why(target).reason, "permission_missing", "this event may have a token");
    assert.equal(why({ GITHUB_EVENT_NAME: "pull_request", GITHUB_EVENT_PATH: "/none" }).reason, "permission_missing");
});

test("dependabot is told so", () => {
    const failure = why({ ...event({ repo: { full_name: "acme/payments-api" } }), GITHUB_ACTOR: "dependabot[bot]" });
    assert.deepEqual([failure.reason, failure.unavailable], ["dependabot", true]);
});

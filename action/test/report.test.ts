import assert from "node:assert/strict";
import { test } from "node:test";
import { failureSummary, refusal } from "../src/report.ts";
import { html, plain } from "../src/text.ts";
import { REFUSAL } from "./bench.ts";

test("a refusal is told condition by condition", () => {
    const failure = refusal(REFUSAL, "payments-deploy.production");
    assert.equal(failure.reason, "no_mapping");
    assert.equal(failure.decisionId, "0192-refused");
    assert.equal(failure.unavailable, false);
    assert.equal(
        failure.message,
        [
            "The broker refused `payments-deploy.production`: No mapping gives this role to this job; the nearest mapping is `payments-production`",
            "Reason: no_mapping, decision 0192-refused",
            "Nearest mapping: `payments-production` (role `payments-deploy.production`)",
            "  branch: expected `main`, got `feature`",
            "  environment: expected `production`, this job has none",
            "  ref_protected: expected `true`, what this job has is not known",
            "  workflow: does not fit",
            "Roles of this job: `payments-secrets`",
            "Did you mean `payments-secrets`?",
            "Ask: payments-oncall@acme.example",
        ].join("\n"),
    );
    assert.match(failure.details, /<td>branch<\/td><td>`main`<\/td><td>got `feature`<\/td>/);
    assert.match(failure.details, /Claims of this job/);
});

test("a bare refusal is told as far as it goes", () => {
    const failure = refusal({ error: "invalid_request", error_description: "No" }, undefined);
    assert.equal(failure.message, "The broker refused this job: No\nReason: invalid_request");
});

test("a broker's text cannot command the runner or write the summary", () => {
    const evil = "x\r\n::set-output name=a::b\u2028\u0000<img src=x onerror=1>";
    assert.ok(!/[\r\n\u2028\u0000]/.test(plain(evil)));
    assert.ok(!html(evil).includes("<img"));
    const body = {
        error: "e",
        error_description: evil,
        nearest: { mapping: evil, conditions: [{ claim: evil, got: evil }] },
    };
    const failure = refusal({ ...body, roles: [evil], claims: { a: evil } }, evil);
    assert.ok(
        failure.message.split("\n").every((line) => !line.startsWith("::")),
        failure.message,
    );
    assert.ok(!failureSummary(failure, evil).includes("<img"));
    assert.ok(plain("y".repeat(5000)).length < 700);
});

test("a reason that is no word of the list reaches no output", () => {
    const odd = "no_mapping\n::set-output name=x::y";
    assert.equal(
        refusal({ error: "invalid_target", error_description: "No", reason: odd }, "r").reason,
        "invalid_target",
    );
    assert.equal(refusal({ error: odd, error_description: "No", reason: odd }, "r").reason, "refused");
});

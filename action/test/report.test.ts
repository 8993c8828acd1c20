import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../src/failure.ts";
import { failureSummary, refusal, summarize } from "../src/report.ts";
import { forms, html, plain, unheard } from "../src/text.ts";
import { FakeRunner, JWT, REFUSAL } from "./bench.ts";

test("a refusal is told condition by condition", () => {
    const failure = refusal(REFUSAL, "payments-deploy.production");
    assert.equal(failure.reason, "no_mapping");
    assert.equal(failure.decisionId, "0192-4ef05ed");
    assert.equal(failure.unavailable, false);
    assert.equal(
        failure.message,
        [
            "The broker refused `payments-deploy.production`: No mapping gives this role to this job; the nearest mapping is `payments-production`",
            "Reason: no_mapping, decision 0192-4ef05ed",
            "Nearest mapping: `payments-production` (role `payments-deploy.production`)",
            "  branch: expected `main`, got `feature`",
            "  environment: expected `production`, this job has none",
            "  ref_protected: expected `true`, what this job has is not known",
            "  workflow: does not fit",
            "  the branch was renamed",
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
    const summary = failureSummary(failure, evil);
    assert.ok(!summary.includes("<img"));
    assert.ok(!summary.includes("\n\n"), "no Markdown begins in it");
    assert.ok(plain("y".repeat(5000)).length < 700);
    assert.equal(plain("a\u202eb\u200b\u2066c\ufeff"), "a b c", "nothing unseen, nothing that turns letters");
    assert.deepEqual([plain(["a", 1]), plain({ a: null }), plain(undefined)], ['["a",1]', '{"a":null}', ""]);
    let deep: unknown = [];
    for (let at = 0; at < 100_000; at += 1) deep = [deep];
    assert.equal(plain(deep), "…");
});

test("a line for the log is no command, in neither of the runner's two languages", () => {
    // https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
    for (const line of ["::add-mask::e", " \t::stop-commands::x", "words: ##[add-mask]e", "a\n::error::b ##[group]"]) {
        assert.doesNotMatch(unheard(line), /^\s*::|##\[/m, line);
    }
    assert.equal(unheard("role a::b of https://x"), "role a::b of https://x");
});

test("a secret is masked in each form that it may be shown in", () => {
    for (const secret of [JWT, "wJalr/XUtn+FEMI==", "12345678", "line one\nline two", "schlüssel-mit-ümlaut"]) {
        const masks = forms(secret);
        assert.equal(masks[0], secret);
        for (let before = 0; before < 4; before += 1) {
            for (let behind = 0; behind < 4; behind += 1) {
                const shown = Buffer.from("u".repeat(before) + secret + "v".repeat(behind)).toString("base64");
                const found = masks.find((mask) => mask !== secret && shown.includes(mask)) ?? "";
                assert.ok(shown.length - found.length <= 11, `${shown} shows more than ${found} hides`);
            }
        }
        for (const shown of [encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)]) {
            assert.ok(masks.includes(shown), shown);
        }
    }
    assert.ok(forms("line one\nline two").includes("line two"));
    assert.deepEqual(forms("test"), [], "it would hide half of the log");
});

test("a summary has paragraphs, and lines to paste as they stand; who wants none gets none", async () => {
    const failure = new Failure(
        "permission_missing",
        "Add to it:\n\n    permissions:\n      id-token: write\n\nOr <not>",
    );
    assert.equal(
        failureSummary(failure, "no credential"),
        "<h3>Claimbound: no credential</h3><p>Add to it:</p><pre>    permissions:\n      id-token: write</pre><p>Or &lt;not&gt;</p>\n",
    );
    for (const [wanted, written] of [
        ["always", ["good", "bad"]],
        ["", ["good", "bad"]],
        ["failure", ["bad"]],
        ["never", []],
    ] as const) {
        const runner = new FakeRunner({ summary: wanted });
        await summarize(runner, "good", false);
        await summarize(runner, "bad", true);
        assert.deepEqual(runner.all("summary"), written, wanted);
    }
});

test("what a person typed is told whole, and as nothing but text", () => {
    const typed = `${"not during the freeze ".repeat(22)}| <b>*x*</b> ##[add-mask]the \r\n::stop-commands::y`;
    const failure = refusal(
        { error: "access_denied", error_description: `Rejected: ${typed}`, reason: "ceremony_rejected" },
        "payments-deploy",
    );
    assert.ok(failure.message.includes("::stop-commands::y\nReason: ceremony_rejected"), failure.message);
    assert.equal(failure.message.split("\n").length, 2);
    const summary = failureSummary(failure, "no credential");
    assert.ok(
        summary.includes("freeze | &lt;b&gt;*x*&lt;/b&gt;") && summary.includes("y<br>Reason: ceremony_rejected"),
    );
    const endless = refusal({ error: "access_denied", error_description: "x".repeat(100_000) }, "r");
    assert.ok(endless.message.length < 1_400 && failureSummary(endless, "t").length < 1_500);
});

test("a reason that is no word of the list reaches no output", () => {
    const odd = "no_mapping\n::set-output name=x::y";
    assert.equal(
        refusal({ error: "invalid_target", error_description: "No", reason: odd }, "r").reason,
        "invalid_target",
    );
    assert.equal(refusal({ error: odd, error_description: "No", reason: odd }, "r").reason, "refused");
});

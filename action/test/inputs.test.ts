import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { INPUT_NAMES, readInputs } from "../src/inputs.ts";
import { BROKER } from "./bench.ts";

function read(inputs: Record<string, string>) {
    const all: Record<string, string> = { "broker-url": BROKER, ...inputs };
    return readInputs((name) => all[name] ?? "");
}

test("what is not said has its default, and the audience is the broker's URL", () => {
    assert.deepEqual(read({}), {
        brokerUrl: BROKER,
        audience: BROKER,
        ca: "",
        actorTokenFile: undefined,
        role: undefined,
        durationSeconds: undefined,
        mode: undefined,
        onUnavailable: "fail",
        onPending: "wait",
        dryRun: false,
        allowedAccountIds: [],
        timeoutSeconds: 60,
        jobTimeoutSeconds: undefined,
    });
});

test("what is said is read", () => {
    const inputs = read({
        "broker-url": "http://127.0.0.1:8080",
        audience: BROKER,
        role: "r",
        duration: "30m",
        mode: "profile",
        "on-unavailable": "skip",
        "on-pending": "stop",
        "dry-run": "true",
        "allowed-account-ids": "111111111111, 222222222222",
        timeout: "2m",
        "job-timeout": "90m",
        "actor-token-file": "actor.jwt",
    });
    assert.equal(inputs.brokerUrl, "http://127.0.0.1:8080");
    assert.equal(inputs.audience, BROKER);
    assert.equal(inputs.durationSeconds, 1800);
    assert.deepEqual([inputs.timeoutSeconds, inputs.jobTimeoutSeconds], [120, 5400]);
    assert.equal(inputs.actorTokenFile, join(process.cwd(), "actor.jwt"));
    assert.deepEqual([inputs.mode, inputs.onUnavailable, inputs.dryRun], ["profile", "skip", true]);
    assert.deepEqual(inputs.allowedAccountIds, ["111111111111", "222222222222"]);
});

const WRONG: [Record<string, string>, string][] = [
    [{ "broker-url": "" }, "`broker-url` is empty"],
    [{ "broker-url": "claimbound.example.com" }, "which is no URL"],
    [{ "broker-url": `${BROKER}/` }, "ends in a slash"],
    [{ "broker-url": "http://claimbound.example.com" }, "must begin with `https://`"],
    [{ "broker-url": "http://127.0.0.1.example.com" }, "must begin with `https://`"],
    [{ "broker-url": "ftp://127.0.0.1" }, "must begin with `https://`"],
    [{ "broker-url": "https://user@claimbound.example.com" }, "without user, query and fragment"],
    [{ "broker-url": `${BROKER}?` }, "without user, query and fragment"],
    [{ audience: "sts.amazonaws.com" }, "`audience` is `sts.amazonaws.com`, which is no URL"],
    [{ duration: "900" }, "for example `30m`"],
    [{ duration: "0s" }, "for example `30m`"],
    [{ timeout: "11m" }, "at most `10m`"],
    [{ "job-timeout": "6d" }, "`job-timeout` is at most `5d`"],
    [{ "ca-file": "package.json" }, "`ca-file` is `package.json`, which is no file of certificates (PEM)"],
    [{ "ca-file": "/nowhere" }, "which is no file of certificates"],
    [{ mode: "environment" }, "one of `agent`, `env`, `file`, `output`, `profile`"],
    [{ "on-unavailable": "ignore" }, "one of `fail`, `skip`"],
    [{ "on-pending": "ask" }, "one of `wait`, `stop`"],
    [{ summary: "no" }, "one of `always`, `failure`, `never`"],
    [{ "dry-run": "yes" }, "one of `true`, `false`"],
    [{ "allowed-account-ids": "1234" }, "has 12 digits"],
    [{ "allowed-account-ids": "111111111111", mode: "output" }, "leave one out"],
];

test("what does not hold is named, with the remedy", () => {
    for (const [inputs, text] of WRONG) {
        assert.throws(
            () => read(inputs),
            (error: Error) => error.message.includes(text),
            JSON.stringify(inputs),
        );
    }
    assert.throws(() => read({ mode: "x", "dry-run": "y" }), /`mode`.*\n.*`dry-run`/, "all at once");
});

/** Keys at the first level below a key of `action.yml`. */
function declared(section: string): string[] {
    const lines = readFileSync("action.yml", "utf8").split("\n");
    const from = lines.indexOf(`${section}:`) + 1;
    const to = lines.findIndex((line, at) => at >= from && /^\S/.test(line));
    return lines.slice(from, to).flatMap((line) => /^ {2}(\S+):$/.exec(line)?.[1] ?? []);
}

test("declared inputs are those that are read, and declared outputs those that are set", () => {
    assert.deepEqual(declared("inputs").sort(), [...INPUT_NAMES].sort());
    const files = readdirSync("src", { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
    const source = files.map((name) => readFileSync(`src/${name}`, "utf8")).join("");
    const set = [...source.matchAll(/runner\.output\("([a-z-]+)"/g)].map((match) => match[1]);
    assert.deepEqual(declared("outputs").sort(), [...new Set(set)].sort());
});

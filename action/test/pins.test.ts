// Whoever copies an example gets what it says: every action by its commit.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

function* texts(folder: string): Generator<[string, string]> {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
        const path = join(folder, entry.name);
        if (entry.isDirectory()) yield* texts(path);
        else if (/\.(md|ya?ml)$/.test(entry.name)) yield [path, readFileSync(path, "utf8")];
    }
}

test("examples, pages and workflows name every action by its commit", () => {
    const pages = ["README.md", "action/README.md"].map(
        (path) => [path, readFileSync(join("..", path), "utf8")] as const,
    );
    const folders = ["docs", "examples", ".github"].flatMap((folder) => [...texts(join("..", folder))]);
    const used = [...pages, ...folders].flatMap(([path, text]) =>
        [...text.matchAll(/\buses: *([^\s#"]+)/g)].map((match) => [path, match[1] ?? ""] as const),
    );
    // A step may print what it has just made, and pages write about what they do not use.
    const named = used.filter(([, action]) => action.includes("/") && !/^[.$]|…/.test(action));
    assert.ok(named.length > 5, "they are found at all");
    assert.deepEqual(
        named.filter(([, action]) => !/@([0-9a-f]{40}|<sha>)$/.test(action)),
        [],
    );
    // Two versions of one action are an upgrade that was forgotten.
    const pinned = [...new Set(named.map(([, action]) => action).filter((action) => !action.endsWith("<sha>")))];
    const names = pinned.map((action) => action.split("@")[0]);
    assert.deepEqual(names, [...new Set(names)]);
});

test("the action has the version of the program that it is released with", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    assert.match(
        readFileSync("../Cargo.toml", "utf8"),
        new RegExp(`^version = "${version.replaceAll(".", "\\.")}"$`, "m"),
    );
});

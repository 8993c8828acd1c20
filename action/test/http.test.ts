import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { NoAnswer, send } from "../src/http.ts";

async function serving<T>(listener: RequestListener, body: (url: string) => Promise<T>): Promise<T> {
    const server = createServer(listener).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    try {
        return await body(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    } finally {
        server.closeAllConnections();
        server.close();
    }
}

test("a form is sent, and status, Retry-After and JSON come back", async () => {
    const listener: RequestListener = (request, response) => {
        let body = "";
        request.on("data", (chunk) => (body += chunk));
        request.on("end", () => {
            response.writeHead(503, { "retry-after": "7" });
            response.end(JSON.stringify({ method: request.method, headers: request.headers, body }));
        });
    };
    const ask = { method: "POST", form: new URLSearchParams({ a: "b c&d" }), timeoutMs: 5000 } as const;
    const reply = await serving(listener, (url) => send({ ...ask, url: `${url}/token` }));
    assert.deepEqual([reply.status, reply.retryAfterSeconds], [503, 7]);
    const said = reply.body as { method: string; headers: Record<string, string>; body: string };
    assert.deepEqual([said.method, said.body], ["POST", "a=b+c%26d"]);
    assert.equal(said.headers["content-type"], "application/x-www-form-urlencoded");
    assert.match(said.headers["user-agent"] ?? "", /^claimbound-action\//);
});

test("a redirect is an answer, and its target sees nothing", async () => {
    let visits = 0;
    const trap: RequestListener = (_, response) => {
        visits += 1;
        response.end();
    };
    await serving(trap, async (target) => {
        const redirect: RequestListener = (_, response) => response.writeHead(307, { location: target }).end();
        const reply = await serving(redirect, (url) => send({ method: "GET", url, timeoutMs: 5000 }));
        assert.equal(reply.status, 307);
    });
    assert.equal(visits, 0);
});

test("silence, drops, floods and closed doors are no answer, and the request is not repeated in the text", async () => {
    const head = { "content-type": "application/json" };
    const listeners: [string, RequestListener, RegExp][] = [
        ["silence", () => {}, /no answer within 1 s|timed out|broke/],
        ["a drip", (_, response) => void response.writeHead(200, head).write("{"), /no answer within 1 s|broke/],
        ["a drop", (request) => void request.socket.destroy(), /broke/],
        ["a flood", (_, response) => void response.end("x".repeat(300_000)), /more than 256 KiB/],
    ];
    for (const [name, listener, text] of listeners) {
        const asked = serving(listener, (url) => send({ method: "GET", url: `${url}/?secret`, timeoutMs: 600 }));
        await assert.rejects(
            asked,
            (error: Error) =>
                error instanceof NoAnswer && text.test(error.message) && !error.message.includes("secret"),
            name,
        );
    }
    const closed = await serving(
        () => {},
        async (url) => url,
    );
    await assert.rejects(send({ method: "GET", url: closed, timeoutMs: 600 }), /refused \(ECONNREFUSED\)/);
});

test("what is no JSON is no body", async () => {
    const html: RequestListener = (_, response) => void response.end("<html>");
    assert.equal((await serving(html, (url) => send({ method: "GET", url, timeoutMs: 5000 }))).body, undefined);
});

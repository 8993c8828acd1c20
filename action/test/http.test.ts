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

test("Retry-After may be a date, and nonsense counts as absent", async () => {
    const date = new Date(Date.now() + 60_000).toUTCString();
    const cases: [string, (seconds: number | undefined) => boolean][] = [
        [date, (seconds) => seconds !== undefined && seconds > 50 && seconds <= 60],
        [new Date(0).toUTCString(), (seconds) => seconds === 0],
        ["-5", (seconds) => seconds === undefined],
        ["soon", (seconds) => seconds === undefined],
        ["", (seconds) => seconds === undefined],
    ];
    for (const [header, holds] of cases) {
        const listener: RequestListener = (_, response) =>
            void response.writeHead(429, { "retry-after": header }).end("{}");
        const reply = await serving(listener, (url) => send({ method: "GET", url, timeoutMs: 5000 }));
        assert.ok(holds(reply.retryAfterSeconds), `${header}: ${reply.retryAfterSeconds}`);
    }
});

test("a proxy is asked unless NO_PROXY names the host, and told where it fails, without its password", async () => {
    const names = ["http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"];
    const before = names.map((name) => process.env[name]);
    const ask = (timeoutMs = 5000) => send({ method: "GET", url: "http://broker.invalid/?secret", timeoutMs });
    const fails = async (proxy: string, bypass: string, text: RegExp) => {
        for (const name of names) delete process.env[name];
        Object.assign(process.env, { http_proxy: proxy, NO_PROXY: bypass });
        await assert.rejects(ask(), (error: Error) => text.test(error.message) && !/secret|pass/.test(error.message));
    };
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const seen: (string | undefined)[] = [];
    server.on("connect", (request, socket) => {
        seen.push(request.url);
        socket.end("HTTP/1.1 407 -\r\n\r\n");
    });
    try {
        const proxy = `http://user:pass@${host}`;
        const told = new RegExp(`^the proxy answered 407; the environment sends this through the proxy \`${host}\`$`);
        await fails(proxy, "other.invalid", told);
        assert.deepEqual(seen, ["broker.invalid:80"]);
        await fails(proxy, "other.invalid, broker.invalid", /^its name is not known \(ENOTFOUND\)$/);
        assert.equal(seen.length, 1, "it is not asked");
        server.close();
        await fails(proxy, "", new RegExp(`^the connection was refused \\(ECONNREFUSED\\); .* proxy \`${host}\`$`));
        await fails("no url", "", /the proxy that the environment names is no URL/);
    } finally {
        server.close();
        names.forEach((name, at) => {
            if (before[at] === undefined) delete process.env[name];
            else process.env[name] = before[at];
        });
    }
});

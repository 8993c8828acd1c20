// The container credential endpoint of AWS clients, on loopback:
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
// Any process of the machine can connect, so who asks shows a token that stands in a file of this user.

import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Failure } from "../failure.ts";
import type { Lease } from "../notes.ts";
import { time } from "../report.ts";
import type { Answer } from "./keeper.ts";

const HEADER_BYTES_MAX = 16 * 1024;
const REQUEST_MS_MAX = 5_000;
const CONNECTIONS_MAX = 1_024;

export interface Duties {
    authorization: string;
    control: string;
    ask: () => Promise<Answer>;
    /** Ends the agent; what it leaves to be ended. */
    stop: () => Promise<Lease[]>;
}

/** Listens on a port of its own choice. */
export async function serve(duties: Duties): Promise<{ server: Server; port: number }> {
    const options = {
        maxHeaderSize: HEADER_BYTES_MAX,
        requestTimeout: REQUEST_MS_MAX,
        headersTimeout: REQUEST_MS_MAX,
        connectionsCheckingInterval: REQUEST_MS_MAX,
    };
    let host = "";
    const server = createServer(options, (request, response) => {
        request.resume();
        answer(request, response, duties, host).catch(() => say(response, 500, { code: "agent_failed", message: "" }));
    });
    server.maxConnections = CONNECTIONS_MAX;
    await new Promise<void>((resolve, reject) => {
        server.once("error", reject).listen(0, "127.0.0.1", resolve);
    });
    const { port } = server.address() as AddressInfo;
    host = `127.0.0.1:${port}`;
    return { server, port };
}

async function answer(request: IncomingMessage, response: ServerResponse, duties: Duties, host: string): Promise<void> {
    const { method, url, headers } = request;
    // A page in a browser of this machine could name us by another name.
    if (headers.host !== host) return say(response, 403, { code: "wrong_host", message: `Ask \`${host}\`` });
    const wanted = { "/credentials": ["GET", duties.authorization], "/stop": ["POST", duties.control] }[url ?? ""];
    if (wanted === undefined) return say(response, 404, { code: "not_found", message: "Ask for `/credentials`" });
    const [verb, secret] = wanted as [string, string];
    if (method !== verb) return say(response, 405, { code: "method_not_allowed", message: `Use ${verb}` });
    const shown = headers.authorization;
    if (shown === undefined) {
        const message =
            "Show the content of the file that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names as `Authorization`";
        return say(response, 401, { code: "unauthorized", message });
    }
    if (!same(shown, secret)) return say(response, 403, { code: "forbidden", message: "This is another token" });
    if (url === "/stop") return say(response, 200, { leases: await duties.stop() });
    const said = await duties.ask();
    if ("failure" in said) return refuse(response, said.failure);
    const { granted, aws } = said;
    say(response, 200, {
        AccessKeyId: aws.accessKeyId,
        SecretAccessKey: aws.secretAccessKey,
        Token: aws.sessionToken,
        Expiration: time(granted.expiresAtMs),
        AccountId: aws.accountId,
        RoleArn: aws.assumedRoleArn,
    });
}

/** SDKs try a 503 again, and show people the body of any. */
function refuse(response: ServerResponse, failure: Failure): void {
    say(response, failure.unavailable ? 503 : 403, { code: failure.reason, message: failure.message });
}

function say(response: ServerResponse, status: number, body: object): void {
    const text = JSON.stringify(body);
    const head = {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    };
    response.writeHead(status, { ...head, "content-length": Buffer.byteLength(text) }).end(text);
}

/** Says nothing of how much is alike. */
function same(shown: string, secret: string): boolean {
    const digest = (text: string) => createHash("sha256").update(text).digest();
    return timingSafeEqual(digest(shown), digest(secret));
}

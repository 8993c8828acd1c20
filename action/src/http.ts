// One request, one answer, within a time and a size. Proxies come from the runner's environment, private authorities from
// `ca-file` and `NODE_EXTRA_CA_CERTS`. Redirects are answers like any other: nothing follows them.

import type { Agent, RequestOptions } from "node:https";
import { readFileSync } from "node:fs";
import * as tls from "node:tls";
import { getProxyUrl, HttpClient } from "@actions/http-client";

export interface Ask {
    method: "GET" | "POST";
    url: string;
    headers?: Record<string, string>;
    /** Sent as a form. */
    form?: URLSearchParams;
    timeoutMs: number;
}

export interface Reply {
    status: number;
    retryAfterSeconds: number | undefined;
    /** Parsed JSON; `undefined` if the body is none. */
    body: unknown;
}

export type Send = (ask: Ask) => Promise<Reply>;

/** No answer came. The message says how, and holds nothing of the request. */
export class NoAnswer extends Error {}

/** Whoever answers has no certificate that is trusted: no try more will change that. */
export class Untrusted extends NoAnswer {}

declare const ACTION_VERSION: string;
const BODY_BYTES_MAX = 256 * 1024;

/** What every connection of this process trusts; `undefined` is what Node.js does by itself. */
let authorities: string[] | undefined;

/** Trusts these authorities (PEM) beside the usual ones, from now on. */
export function trust(pem: string): void {
    authorities = pem === "" ? undefined : [...usual(), pem];
}

/** Authorities that are named replace the usual ones, so those are named, too. */
function usual(): string[] {
    // Since Node.js 22.15; the Node.js of older runners knows neither.
    const known: { getCACertificates?: typeof tls.getCACertificates } = tls;
    if (known.getCACertificates !== undefined) return known.getCACertificates("default");
    try {
        return [...tls.rootCertificates, readFileSync(process.env.NODE_EXTRA_CA_CERTS ?? "", "utf8")];
    } catch {
        return [...tls.rootCertificates];
    }
}

/** Hands the authorities to whatever connects: directly, or behind a proxy. */
class Authorities {
    prepareRequest(options: RequestOptions): void {
        const agent = options.agent as Agent | undefined;
        if (authorities !== undefined && agent) agent.options = { ...agent.options, ca: authorities };
    }
    canHandleAuthentication(): boolean {
        return false;
    }
    async handleAuthentication(): Promise<never> {
        throw new NoAnswer("it asks for a password");
    }
}

export const send: Send = async (ask) => {
    const client = new HttpClient(`claimbound-action/${ACTION_VERSION}`, [new Authorities()], {
        allowRedirects: false,
        allowRetries: false,
        socketTimeout: ask.timeoutMs,
    });
    const headers: Record<string, string> = { accept: "application/json", ...ask.headers };
    if (ask.form) headers["content-type"] = "application/x-www-form-urlencoded";
    let timer: NodeJS.Timeout | undefined;
    let stop = (): void => {};
    const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
            reject(new NoAnswer(`no answer within ${Math.ceil(ask.timeoutMs / 1000)} s`));
            stop();
        }, ask.timeoutMs);
    });
    const answer = async (): Promise<Reply> => {
        const { message } = await client.request(ask.method, ask.url, ask.form?.toString() ?? "", headers);
        stop = () => message.destroy();
        const chunks: Buffer[] = [];
        let size = 0;
        for await (const chunk of message) {
            size += (chunk as Buffer).length;
            if (size > BODY_BYTES_MAX) throw new NoAnswer(`an answer of more than ${BODY_BYTES_MAX / 1024} KiB`);
            chunks.push(chunk as Buffer);
        }
        return {
            status: message.statusCode ?? 0,
            retryAfterSeconds: retryAfter(message.headers["retry-after"] ?? ""),
            body: json(Buffer.concat(chunks).toString("utf8")),
        };
    };
    try {
        return await Promise.race([answer(), late]);
    } catch (error) {
        const [Kind, text] = error instanceof NoAnswer ? ([NoAnswer, error.message] as const) : broken(error);
        throw new Kind(`${text}${way(ask.url)}`);
    } finally {
        clearTimeout(timer);
        client.dispose();
    }
};

const UNKNOWN = "its certificate is of an authority that this runner does not trust; `ca-file` names a private one";
const UNTRUSTED: Record<string, string> = {
    SELF_SIGNED_CERT_IN_CHAIN: UNKNOWN,
    DEPTH_ZERO_SELF_SIGNED_CERT: UNKNOWN,
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNKNOWN,
    UNABLE_TO_GET_ISSUER_CERT: UNKNOWN,
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNKNOWN,
    CERT_HAS_EXPIRED: "its certificate has expired",
    ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name",
};
const AWAY: Record<string, string> = {
    ECONNREFUSED: "the connection was refused",
    ECONNRESET: "the connection broke",
    ENOTFOUND: "its name is not known",
    ETIMEDOUT: "the connection timed out",
};

/** What lies between this machine and a proxy has one code for everything, and stands in the text. */
const TUNNEL = /^tunneling socket could not be established, (?:statusCode=(\d{3})|cause=.*?\b(E[A-Z]{4,})\b)/;

/** Says the code alone: messages of the network layer can hold the URL. */
function broken(error: unknown): readonly [typeof NoAnswer, string] {
    const { code, message } = error as { code?: unknown; message?: unknown };
    const [, status, cause] = TUNNEL.exec(String(message)) ?? [];
    if (status !== undefined) return [NoAnswer, `the proxy answered ${status}`];
    const known = cause ?? code;
    if (typeof known !== "string") return [NoAnswer, "the connection broke"];
    const untrusted = UNTRUSTED[known];
    if (untrusted !== undefined) return [Untrusted, `${untrusted} (${known})`];
    return [NoAnswer, `${AWAY[known] ?? "the connection failed"} (${known})`];
}

/** Who stands in between: often whoever the mistake lies with. */
function way(url: string): string {
    try {
        const proxy = getProxyUrl(url);
        // Never its user and password.
        return proxy === "" ? "" : `; the environment sends this through the proxy \`${new URL(proxy).host}\``;
    } catch {
        return "; the proxy that the environment names is no URL";
    }
}

/** Seconds, or a date (RFC 9110, section 10.2.3). */
function retryAfter(header: string): number | undefined {
    if (/^\d{1,9}$/.test(header)) return Number(header);
    const at = header.endsWith(" GMT") ? Date.parse(header) : Number.NaN;
    return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}

function json(text: string): unknown {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

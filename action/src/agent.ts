// The agent: a process that outlives the step which started it, gives its job's AWS clients the credential, and renews it
// until the job ends. It prints nothing but its port; what happens to it stands in its log, for the post step.

import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { Keeper, type Line } from "./agent/keeper.ts";
import type { Order } from "./agent/order.ts";
import { renewed } from "./agent/renew.ts";
import { serve } from "./agent/server.ts";
import { revoke } from "./broker.ts";
import { send, trust } from "./http.ts";
import { time } from "./report.ts";
import { realPace } from "./retry.ts";

/** Enough for months of one broker's outages, and no more of a disk. */
const LOG_LINES_MAX = 2_000;
/** After its answer to whoever stopped it. */
const LEAVE_MS = 200;

async function main(): Promise<void> {
    const order = JSON.parse(readFileSync(0, "utf8")) as Order;
    trust(order.inputs.ca);
    let lines = 0;
    const log = (line: Line) => {
        lines += 1;
        try {
            if (lines <= LOG_LINES_MAX) appendFileSync(order.logFile, `${JSON.stringify(line)}\n`, { mode: 0o600 });
        } catch {
            // The folder is gone, and with it whoever would read this.
        }
    };
    const keeper = new Keeper(order.granted, (pace) => renewed(order, send, pace), realPace, log);
    let ending = false;
    const stop = async () => {
        ending = true;
        const leases = await keeper.leases();
        setTimeout(() => process.exit(0), LEAVE_MS);
        return leases;
    };
    /** Nobody has stopped it, so nobody else ends its leases. */
    const end = async (why: string) => {
        if (ending) return;
        ending = true;
        log({ at: time(realPace.nowMs()), what: "ended", text: why });
        const leases = await keeper.leases();
        await Promise.allSettled(leases.map((lease) => revoke(send, order.inputs.brokerUrl, lease.handle)));
        process.exit(0);
    };
    const { port } = await serve({ ...order, ask: () => keeper.ask(), stop });
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => void end(`by ${signal}`));
    // Whoever started it reads the port and is gone.
    process.stdout.on("error", () => {});
    process.stdout.write(`${port}\n`);
    log({ at: time(realPace.nowMs()), what: "started", text: `until ${time(order.deadlineMs)} at the latest` });
    setInterval(() => {
        if (realPace.nowMs() >= order.deadlineMs) void end("its job must be over by now");
        else if (!existsSync(order.tokenFile)) void end("its files are gone, so its job is over");
        else keeper.look();
    }, order.lookMs);
}

main().catch(() => process.exit(1));

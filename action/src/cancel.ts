// A job that is cancelled: the runner sends a signal, and ends the process ten seconds later. What was asked is still heard,
// so that the post step knows what to end; nothing more is asked, and nothing waited for.

import { Failure } from "./failure.ts";
import type { Send } from "./http.ts";
import type { Pace } from "./retry.ts";

/** The same network and pace, until `cancel`. */
export function cancellable(send: Send, pace: Pace): { send: Send; pace: Pace; cancel: () => void } {
    let cancelled = false;
    let wake = (): void => {};
    const woken = new Promise<void>((resolve) => {
        wake = resolve;
    });
    const goOn = (): void => {
        if (cancelled) throw new Failure("cancelled", "The job was cancelled, so no credential is asked for any more");
    };
    return {
        send: async (ask) => {
            goOn();
            return await send(ask);
        },
        pace: {
            nowMs: () => pace.nowMs(),
            random: () => pace.random(),
            sleep: async (ms) => {
                await Promise.race([pace.sleep(ms), woken]);
                goOn();
            },
        },
        cancel: () => {
            cancelled = true;
            wake();
        },
    };
}

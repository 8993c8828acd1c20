// One round of tries for a renewed credential: as the main step does it, with a token that no exchange has seen, from a
// broker that still is who it should be.

import { compare, exchange, type Granted, revoke } from "../broker.ts";
import { unexpected } from "../deliver.ts";
import { Failure } from "../failure.ts";
import type { Send } from "../http.ts";
import { freshToken } from "../job.ts";
import { type Pace, persist } from "../retry.ts";
import type { Order } from "./order.ts";

/** Nothing is printed here, so there is nobody to mask for. */
const unseen = (): void => {};

export async function renewed(
    { inputs, source }: Pick<Order, "inputs" | "source">,
    send: Send,
    pace: Pace,
): Promise<Granted> {
    const deadlineMs = pace.nowMs() + inputs.timeoutSeconds * 1000;
    const answer = await persist(pace, deadlineMs, async (timeoutMs) => {
        const began = pace.nowMs();
        const left = () => Math.max(1, timeoutMs - (pace.nowMs() - began));
        await compare(send, inputs, timeoutMs);
        const token = await freshToken(send, source, inputs.audience, unseen, left());
        return await exchange(send, inputs, token, unseen, () => pace.nowMs(), left());
    });
    if ("authReqId" in answer) {
        await revoke(send, inputs.brokerUrl, answer.authReqId).catch(() => {});
        const text = `A person must claim \`${inputs.role}\` each time, so the agent cannot renew it`;
        throw new Failure("ceremony_needed", `${text}. Log in again in the step that needs more time`, {
            decisionId: answer.decisionId,
        });
    }
    if (!("credential" in answer) || answer.credential.kind !== "aws") {
        throw new Failure("answer_invalid", "The broker renewed with something that is no AWS credential");
    }
    try {
        unexpected(answer, inputs.allowedAccountIds);
    } catch (error) {
        await revoke(send, inputs.brokerUrl, answer.handle).catch(() => {});
        throw error;
    }
    return answer;
}

// Why a step ends without a credential. One class, so that every ending has a reason for programs and a text for people.

/** `reason` becomes the output of that name; a refusal carries the broker's own. */
export class Failure extends Error {
    readonly reason: string;
    /** Nobody's mistake in this workflow: `on-unavailable: skip` lets the job go on. */
    readonly unavailable: boolean;
    readonly decisionId: string;
    /** More for the step summary, in HTML that is already escaped. */
    readonly details: string;

    constructor(
        reason: string,
        text: string,
        more: { unavailable?: boolean; decisionId?: string; details?: string } = {},
    ) {
        super(text);
        this.reason = reason;
        this.unavailable = more.unavailable ?? false;
        this.decisionId = more.decisionId ?? "";
        this.details = more.details ?? "";
    }
}

import { send } from "./http.ts";
import { login } from "./login.ts";
import { realPace } from "./retry.ts";
import { leave, runner } from "./runner.ts";

login(runner, send, realPace).catch(broken).finally(leave);

function broken(error: unknown): void {
    // An error of this action itself: its kind and place, never a message that could hold what it worked on.
    const stack = error instanceof Error ? (error.stack ?? "").split("\n    at ").slice(1, 4).join(" < ") : "";
    const kind = error instanceof Error ? error.name : typeof error;
    runner.fail(`An error of the action itself (${kind}): please report it with this place: ${stack}`, "claimbound");
}

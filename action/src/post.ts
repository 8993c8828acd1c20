import { send } from "./http.ts";
import { logout } from "./logout.ts";
import { realPace } from "./retry.ts";
import { leave, place, runner } from "./runner.ts";

logout(runner, send, realPace).catch(broken).finally(leave);

function broken(error: unknown): void {
    // The job may be green: what is left runs out by itself.
    runner.warn(`Not everything was ended, by an error of the action itself ${place(error)}`, "claimbound: clean-up");
}

import { cancellable } from "./cancel.ts";
import { send } from "./http.ts";
import { login } from "./login.ts";
import { realPace } from "./retry.ts";
import { leave, place, runner } from "./runner.ts";

const job = cancellable(send, realPace);
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, job.cancel);
login(runner, job.send, job.pace).catch(broken).finally(leave);

function broken(error: unknown): void {
    runner.fail(`An error of the action itself ${place(error)}`, "claimbound");
}

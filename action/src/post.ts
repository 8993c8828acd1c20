import { send } from "./http.ts";
import { logout } from "./logout.ts";
import { realPace } from "./retry.ts";
import { leave, runner } from "./runner.ts";

void logout(runner, send, realPace).finally(leave);

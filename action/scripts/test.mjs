// Bundles the tests into `build/` and runs them with Node's own runner; TypeScript needs no loader that way.
import { spawnSync } from "node:child_process";
import { readdir, rm } from "node:fs/promises";
import { build } from "esbuild";

process.chdir(new URL("..", import.meta.url).pathname);
await rm("build", { recursive: true, force: true });
const tests = (await readdir("test")).filter((file) => file.endsWith(".test.ts"));
await build({
  entryPoints: [...tests.map((file) => `test/${file}`), "src/main.ts", "src/post.ts", "src/agent.ts"],
  outdir: "build",
  entryNames: "[name]",
  outExtension: { ".js": ".cjs" },
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  sourcemap: "inline",
  logLevel: "warning",
  define: { ACTION_VERSION: JSON.stringify("test") },
});
const built = tests.map((file) => `build/${file.replace(/ts$/, "cjs")}`);
const run = spawnSync(
  process.execPath,
  ["--enable-source-maps", "--test", "--test-timeout=120000", "--test-reporter=spec", ...built],
  {
    stdio: "inherit",
  },
);
process.exit(run.status ?? 1);

// Bundles `main`, `post` and `agent`, one file each, with the licences of what is bundled. The same sources and lock give
// the same bytes: nothing of the machine, the folder or the time goes in.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const MODULE = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//;

/** Builds `dist/` of the action in this folder. */
export async function bundle(folder) {
  const dist = join(folder, "dist");
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist);
  const { version } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const { metafile } = await build({
    absWorkingDir: folder,
    entryPoints: ["src/main.ts", "src/post.ts", "src/agent.ts"],
    outdir: "dist",
    outExtension: { ".js": ".cjs" },
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    charset: "utf8",
    legalComments: "none",
    metafile: true,
    logLevel: "warning",
    define: { ACTION_VERSION: JSON.stringify(version) },
  });
  const modules = new Set(Object.keys(metafile.inputs).flatMap((path) => MODULE.exec(path)?.[1] ?? []));
  const notices = await Promise.all([...modules].sort().map((name) => notice(folder, name)));
  await writeFile(join(dist, "LICENSES.txt"), notices.join("\n"));
  return [...modules];
}

async function notice(folder, name) {
  const texts = ["LICENSE", "LICENSE.md"].map((file) =>
    readFile(join(folder, "node_modules", name, file), "utf8").catch(() => ""),
  );
  const text = (await Promise.all(texts)).find((found) => found !== "");
  if (text === undefined) throw new Error(`${name} has no licence file`);
  return `== ${name}\n\n${text.trim()}\n`;
}

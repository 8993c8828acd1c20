// Bundles `main` and `post` into `dist/`, one file each, with the licences of what is bundled. The same sources and
// lock give the same bytes: nothing of the machine or the time goes in.
import { readFile, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const MODULE = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//;

process.chdir(new URL("..", import.meta.url).pathname);
await rm("dist", { recursive: true, force: true });
const { version } = JSON.parse(await readFile("package.json", "utf8"));
const { metafile } = await build({
  entryPoints: ["src/main.ts", "src/post.ts"],
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
const notices = await Promise.all([...modules].sort().map(notice));
await writeFile("dist/LICENSES.txt", notices.join("\n"));

async function notice(name) {
  const folder = `node_modules/${name}`;
  const texts = ["LICENSE", "LICENSE.md"].map((file) => readFile(`${folder}/${file}`, "utf8").catch(() => ""));
  const text = (await Promise.all(texts)).find((found) => found !== "");
  if (text === undefined) throw new Error(`${name} has no licence file`);
  return `== ${name}\n\n${text.trim()}\n`;
}

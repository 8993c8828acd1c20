// Fails unless a build of the same sources, in another folder and at another time, gives the bytes of `dist/`.
import { createHash } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundle } from "./bundle.mjs";

const here = fileURLToPath(new URL("..", import.meta.url));
const modules = await bundle(here);
const there = await mkdtemp(join(tmpdir(), "reproduce-"));
try {
  for (const path of ["src", "package.json", "tsconfig.json", ...modules.map((name) => `node_modules/${name}`)]) {
    await cp(join(here, path), join(there, path), { recursive: true });
  }
  await bundle(there);
  const [first, second] = [await digests(here), await digests(there)];
  if (first !== second) {
    console.error(`Two builds differ:\n${first}\n${second}`);
    process.exitCode = 1;
  } else {
    console.log(first);
  }
} finally {
  await rm(there, { recursive: true, force: true });
}

async function digests(folder) {
  const names = (await readdir(join(folder, "dist"))).sort();
  const lines = names.map(async (name) => {
    const bytes = await readFile(join(folder, "dist", name));
    return `${createHash("sha256").update(bytes).digest("hex")}  ${name}`;
  });
  return (await Promise.all(lines)).join("\n");
}

// Compiles the sources with strict types, and bundles the library for browsers.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

process.chdir(fileURLToPath(new URL(".", import.meta.url)));
rmSync("dist", { recursive: true, force: true });
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "."], { stdio: "inherit" });
await build({
  entryPoints: ["dist/src/index.js"],
  outfile: "dist/browser.js",
  bundle: true,
  format: "esm",
  platform: "neutral",
  logLevel: "warning",
});

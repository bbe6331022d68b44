// The bundle runs where there is no Node: it imports nothing, and a real browser comes to the same
// verdicts, where one is installed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createContext, SourceTextModule } from "node:vm";

import { genesisText, samples } from "./samples.ts";

const bundle = readFileSync(new URL("../browser.js", import.meta.url), "utf8");
const CHROMIUM = "/usr/bin/chromium";
const own = samples.filter((sample) => sample.trusted === 0).slice(0, 40);
const wanted = own.map((sample) => (sample.verdict === null ? "refused" : "holds")).join(" ");

/** What both places run with the bundle's exports: it returns the verdicts in a row. */
const program = `(verifier, input) => {
  const read = (text) => new TextEncoder().encode(text);
  const genesis = verifier.readGenesis(read(input.genesis));
  return input.files.map((file) => {
    try { verifier.verify(read(file), genesis); return "holds"; } catch { return "refused"; }
  }).join(" ");
}`;
const input = JSON.stringify({ genesis: genesisText, files: own.map((sample) => sample.file) });

test("the bundle imports nothing and needs nothing but the language and texts", async () => {
  assert.doesNotMatch(bundle, /^\s*import\b|\bimport\(|\brequire\(["']|["']node:|\bprocess\./m);
  const context = createContext({ TextEncoder, TextDecoder });
  const source = `${bundle}\nglobalThis.verdicts = (${program})({ readGenesis, verify }, ${input});`;
  if (SourceTextModule === undefined) return assert.fail("run node with --experimental-vm-modules");
  const module = new SourceTextModule(source, { context });
  await module.link(() => assert.fail("the bundle imports a module"));
  await module.evaluate();
  assert.equal(context["verdicts"], wanted);
});

test("a browser comes to the same verdicts", { skip: !existsSync(CHROMIUM) && `there is no ${CHROMIUM}` }, async () => {
  const page = `<!doctype html><title>running</title><script type="module">
    import * as verifier from "/browser.js";
    const input = await (await fetch("/input")).json();
    document.title = (${program})(verifier, input);
  </script>`;
  const server = createServer((request, response) => {
    const [type, body] = request.url === "/browser.js" ? ["text/javascript", bundle]
      : request.url === "/input" ? ["application/json", input] : ["text/html", page];
    response.setHeader("content-type", type!).end(body);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const profile = mkdtempSync(join(tmpdir(), "verifier-"));
  try {
    const { port } = server.address() as AddressInfo;
    const options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", `--user-data-dir=${profile}`,
      "--virtual-time-budget=60000", "--dump-dom", `http://127.0.0.1:${port}/`];
    const browser = spawn(CHROMIUM, options, { stdio: ["ignore", "pipe", "ignore"] });
    let printed = "";
    browser.stdout.on("data", (data: Buffer) => { printed += data.toString(); });
    await new Promise((ended) => browser.on("close", ended));
    assert.match(printed, new RegExp(`<title>${wanted}</title>`));
  } finally {
    server.close();
    rmSync(profile, { recursive: true, force: true });
  }
});

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { genesisText, samples } from "./samples.ts";

const command = fileURLToPath(new URL("../src/command.js", import.meta.url));

test("the command says what is proven, or what is wrong and where", () => {
  const folder = mkdtempSync(join(tmpdir(), "verifier-"));
  const path = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const run = (...args: string[]): { status: number | null; out: string; err: string } => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], { encoding: "utf8" });
    return { status, out: stdout, err: stderr };
  };
  try {
    const genesis = path("genesis.json", genesisText);
    const { file } = samples.find((sample) => sample.verdict !== null && sample.trusted === 0)!;
    const good = run("--genesis", genesis, path("good.json", file));
    assert.equal(good.status, 0, good.err);
    assert.match(good.out, /^proven: .*\nblock: \d+ of 2026-\d\d-\d\dT.*\nsigned by: validator-1.*\nrecord: /);
    assert.match(run("--json", "--genesis", genesis, join(folder, "good.json")).out, /"kind":/);
    const forged = run("--genesis", genesis, path("forged.json", file.replace('"version":2', '"version":3')));
    assert.equal(forged.status, 1);
    assert.match(forged.err, /forged.json proves nothing: version: expected 2, found 3|version/);
    assert.equal(run("--genesis", genesis).status, 2);
    assert.match(run("--genesis", genesis).err, /^usage: /);
    assert.match(run("--genesis", join(folder, "none.json"), join(folder, "good.json")).err, /no such file/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

#!/usr/bin/env node
// lamplighter-verifier --genesis FILE [--trusted FILE] [--json] PROOF

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { canonicalText, readGenesis, readTrusted, verify, VerificationError } from "./index.ts";
import type { Statement } from "./statement.ts";

const USAGE = "usage: lamplighter-verifier --genesis FILE [--trusted FILE] [--json] PROOF";

function args(): { genesis: string; trusted: string | undefined; json: boolean; file: string } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { genesis: { type: "string" }, trusted: { type: "string" }, json: { type: "boolean" } },
  });
  const [file, ...more] = positionals;
  if (values.genesis === undefined || file === undefined || more.length > 0) throw new Error(USAGE);
  return { genesis: values.genesis, trusted: values.trusted, json: values.json ?? false, file };
}

/** The text with characters that a person does not see, or that command a terminal, as escapes. */
function printable(text: string): string {
  const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => c.split("").map(escaped).join(""));
}

function print(statement: Statement): void {
  const { kind, of, record, height, time_ms, head_height, signers } = statement;
  const time = (ms: bigint): string =>
    ms < 8_640_000_000_000_000n ? new Date(Number(ms)).toISOString() : `${ms} ms`;
  const name = of === undefined ? kind : `${kind} ${canonicalText(of)}`;
  const nodes = signers.map((signer) => (signer as { account: string }).account);
  console.log(`proven: ${printable(name)}`);
  console.log(`block: ${height} of ${time(time_ms)}, under the head ${head_height}`);
  console.log(`signed by: ${nodes.join(", ")}`);
  console.log(`record: ${record === null ? "none, its absence is proven" : printable(canonicalText(record))}`);
}

function main(): number {
  const { genesis, trusted, json, file } = args();
  const first = readGenesis(readFileSync(genesis));
  const anchor = trusted === undefined ? first : readTrusted(readFileSync(trusted), first);
  try {
    const { statement } = verify(readFileSync(file), anchor);
    if (json) console.log(printable(canonicalText(statement)));
    else print(statement);
    return 0;
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    console.error(`${file} proves nothing: ${error.message}`);
    return 1;
  }
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}

// Prints the verdict on each file of a pack that the generator in types/tests/all made: first the
// trusted sets as JSON, then each file with the number of its set. Lengths and numbers have 32 bits,
// little-endian.

import { readFileSync } from "node:fs";

import { VerificationError, canonicalText, verify } from "../src/index.ts";
import { trustedSets } from "./sets.ts";

const pack = readFileSync(process.argv[2]!);
let at = 0;

function number(): number {
  at += 4;
  return pack.readUInt32LE(at - 4);
}

function bytes(count: number): Uint8Array {
  at += count;
  return pack.subarray(at - count, at);
}

const trusted = trustedSets(bytes(number()));
const lines: string[] = [];
while (at < pack.length) {
  const set = trusted[number()]!;
  try {
    lines.push(`holds ${canonicalText(verify(bytes(number()), set) as never)}`);
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    lines.push(`refused ${error.message}`);
  }
}
console.log(lines.join("\n"));

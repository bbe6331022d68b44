import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fromHex, toHex, toUtf8 } from "../src/bytes.ts";
import { canonicalText, parseJson } from "../src/json.ts";
import { typeNamed, typeNames } from "../src/schema.ts";
import { TYPES } from "../src/types.ts";
import { decode, encode, fromJson } from "../src/values.ts";

const root = new URL("../../../", import.meta.url);
const text = (path: string): string => readFileSync(new URL(path, root), "utf8");

test("the types are those of docs/formats.md", () => {
  const blocks = text("docs/formats.md").split("```text\n").slice(1).map((block) => block.split("```")[0]);
  assert.ok(blocks.includes(TYPES.trimStart()), "copy the block under \"Types\" to src/types.ts");
});

// The encodings that the ledger's own tests keep: each line of a golden file is of the sample in
// the same line of the file beside it.
test("each sample of the ledger has the same encoding, and is decoded from it", () => {
  const seen = new Set<string>();
  for (const file of ["actions", "facts", "records", "chain"]) {
    const samples = text(`types/tests/samples/${file}.json`).split("\n").filter((l) => l.includes('"type"'));
    const golden = text(`types/tests/golden/${file}.txt`).trim().split("\n");
    assert.equal(samples.length, golden.length);
    golden.forEach((line, n) => {
      const [kind, , hex] = line.split(" ");
      if (!typeNames().includes(kind!)) return;
      seen.add(kind!);
      const sample = new Map(Object.entries({ line: samples[n]!.replace(/,\s*$/, "") }));
      const json = parseJson(toUtf8(sample.get("line")!), kind!);
      assert.ok(json instanceof Map);
      const value = fromJson(typeNamed(kind!), json.get("value")!, "tolerant", kind!);
      assert.equal(toHex(encode(typeNamed(kind!), value)), hex, samples[n]);
      assert.equal(canonicalText(decode(typeNamed(kind!), fromHex(hex!), kind!)), canonicalText(value));
    });
  }
  assert.equal(seen.size, 57, `${seen.size} types`);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { toUtf8 } from "../src/bytes.ts";
import { VerificationError, canonicalText, readGenesis, readTrusted, verify } from "../src/index.ts";
import { genesis, genesisText, samples, trusted } from "./samples.ts";

test("each sample has the verdict of the ledger's own verifier", () => {
  let held = 0;
  for (const { file, trusted: set, verdict } of samples) {
    try {
      assert.equal(canonicalText(verify(toUtf8(file), trusted[set]!) as never), verdict, file);
      held += 1;
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error;
      assert.equal(verdict, null, `${error.message}: ${file}`);
      assert.match(error.message, /expected .*(found|, which is proven)/s);
    }
  }
  assert.equal(2 * held, samples.length);
});

test("the genesis file makes the chain id, and another file another one", () => {
  assert.equal(canonicalText(genesis as never), canonicalText(trusted[0] as never));
  const other = readGenesis(toUtf8(genesisText.replace('"name":"', '"name":"x')));
  assert.notEqual(other.chain_id, genesis.chain_id);
  assert.throws(() => readGenesis(toUtf8(genesisText.replace('"version":2', '"version":3'))), /genesis.version/);
  assert.throws(() => readGenesis(toUtf8("{}")), /genesis: expected the member "version", found none/);
});

test("a file of trusted validators is of the same ledger", () => {
  const file = (set: object): Uint8Array => toUtf8(canonicalText(set as never));
  assert.equal(readTrusted(file(trusted[1]!), genesis).height, trusted[1]!.height);
  assert.throws(() => readTrusted(file({ ...trusted[1]!, chain_id: "00".repeat(32) }), genesis), /trusted.chain_id/);
  assert.throws(() => readTrusted(file({ ...trusted[1]!, height: 0n }), genesis), /of the genesis file at height 0/);
  assert.throws(() => readTrusted(file({ ...trusted[1]!, set: { validators: [] } }), genesis), /1 to 31/);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { ed25519 } from "@noble/curves/ed25519.js";

import { fromHex, toHex, toUtf8 } from "../src/bytes.ts";
import { isSignature } from "../src/signature.ts";

// All encodings of the points whose order divides 8 (the test vectors of ZIP-215).
const SMALL_ORDER = [
  "00".repeat(32), "00".repeat(31) + "80", "01" + "00".repeat(31), "01" + "00".repeat(30) + "80",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
  ...["ec", "ed", "ee"].flatMap((y) => ["7f", "ff"].map((end) => y + "ff".repeat(30) + end)),
];
const ORDER = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

test("keys and points of small order hold in every encoding, as in ZIP-215", () => {
  for (const key of SMALL_ORDER) {
    for (const point of SMALL_ORDER) {
      assert.ok(isSignature(key, toUtf8("Zcash"), point + "00".repeat(32)), `${key} ${point}`);
    }
  }
});

test("S is below the order of the group, and a key is a point", () => {
  for (const point of SMALL_ORDER) assert.ok(!isSignature(point, toUtf8("Zcash"), point + ORDER));
  assert.ok(!isSignature("02" + "00".repeat(31), toUtf8("Zcash"), SMALL_ORDER[2] + "00".repeat(32)));
});

test("an honest signature holds for its own message alone", () => {
  const secret = fromHex("07".repeat(32));
  const key = toHex(ed25519.getPublicKey(secret));
  const signature = toHex(ed25519.sign(toUtf8("message"), secret));
  assert.ok(isSignature(key, toUtf8("message"), signature));
  assert.ok(!isSignature(key, toUtf8("another"), signature));
});

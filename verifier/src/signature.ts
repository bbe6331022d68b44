// Ed25519 by the rules of ZIP-215: keys and points R may be encoded in any way and may be of small
// order, S is below the order of the group, the equation is multiplied by 8, and the hash covers
// the bytes of R and of the key as they came. The ledger checks transactions and certificates so.

import { ed25519 } from "@noble/curves/ed25519.js";

import { fromHex } from "./bytes.ts";
import { digest } from "./merkle.ts";

/** Verdicts that are kept: those of a few hundred heads, which many files have in common. */
const KEPT_MAX = 4096;
const kept = new Map<string, boolean>();

export function isSignature(key: string, message: Uint8Array, signature: string): boolean {
  const name = key + signature + digest(message);
  const known = kept.get(name);
  if (known !== undefined) return known;
  const holds = ed25519.verify(fromHex(signature), message, fromHex(key), { zip215: true });
  if (kept.size >= KEPT_MAX) kept.clear();
  kept.set(name, holds);
  return holds;
}

// Hashes and paths of the trees ("Proofs" in docs/formats.md). Digests are hexadecimal text.

import { blake3 } from "@noble/hashes/blake3.js";

import { concat, fromHex, littleEndian, toHex } from "./bytes.ts";
import { refuse, require } from "./errors.ts";

export interface ListProof { index: bigint; count: bigint; path: string[] }
export interface OtherLeaf { key: string; value: string }
export interface StateProof { siblings: string[]; other: OtherLeaf | null }

const LIST_PATH_MAX = 64;
const STATE_PATH_MAX = 256;
const EMPTY = "00".repeat(32);

/** blake3 of the parts, joined. */
export function digest(...parts: Uint8Array[]): string {
  return toHex(blake3(concat(...parts)));
}

function tagged(tag: number, ...parts: string[]): string {
  return digest(Uint8Array.of(tag), ...parts.map(fromHex));
}

/** The hash of an item of a list. */
export function listLeaf(item: Uint8Array): string {
  return digest(Uint8Array.of(0), item);
}

/** The root of a tree of `count` leaves (RFC 9162, 2.1.3.2), from one leaf and its path. */
export function listRoot(leaf: string, index: bigint, count: bigint, path: string[], at: string): string {
  require(index < count, () => `${at}: expected a place below the number of leaves, ${count}, found ${index}`);
  const wrongLength = (): never =>
    refuse(`${at}.path: expected a path from place ${index} of ${count}, found ${path.length} hashes`);
  if (path.length > LIST_PATH_MAX) wrongLength();
  let [node, last, root] = [index, count - 1n, leaf];
  for (const sibling of path) {
    if (last === 0n) wrongLength();
    if ((node & 1n) === 1n || node === last) {
      root = tagged(1, sibling, root);
      while ((node & 1n) === 0n && node !== 0n) [node, last] = [node >> 1n, last >> 1n];
    } else {
      root = tagged(1, root, sibling);
    }
    [node, last] = [node >> 1n, last >> 1n];
  }
  if (last !== 0n) wrongLength();
  return root;
}

/** The root of a block's list that has `item` at the place of the proof. */
export function countedRoot(item: Uint8Array, place: ListProof, at: string): string {
  const root = listRoot(listLeaf(item), place.index, place.count, place.path, at);
  return digest(Uint8Array.of(2), littleEndian(place.count, 8), fromHex(root));
}

/** The bit of a digest that says where the path goes at a depth; true is right. */
function bit(place: Uint8Array, depth: number): boolean {
  return (place[depth >> 3]! >> (7 - depth % 8) & 1) === 1;
}

/** The root of a state in which the key has the value, or none if it is null. */
export function stateRoot(key: Uint8Array, value: Uint8Array | null, path: StateProof, at: string): string {
  const { siblings, other } = path;
  require(siblings.length <= STATE_PATH_MAX,
    () => `${at}.siblings: expected at most ${STATE_PATH_MAX} hashes, found ${siblings.length}`);
  const place = blake3(key);
  let root = EMPTY;
  if (value !== null) {
    require(other === null, () => `${at}.other: expected none beside a record, found a leaf`);
    root = tagged(3, toHex(place), digest(value));
  } else if (other !== null) {
    checkOther(place, fromHex(other.key), siblings.length, at);
    root = tagged(3, other.key, other.value);
  }
  for (let depth = siblings.length - 1; depth >= 0; depth -= 1) {
    const sibling = siblings[depth]!;
    root = bit(place, depth) ? tagged(4, sibling, root) : tagged(4, root, sibling);
  }
  return root;
}

/** The leaf in place of an absent key is of another key, and lies on the path of the absent one. */
function checkOther(place: Uint8Array, other: Uint8Array, depth: number, at: string): void {
  let shared = 0;
  while (shared < STATE_PATH_MAX && bit(place, shared) === bit(other, shared)) shared += 1;
  require(shared < STATE_PATH_MAX, () => `${at}.other: expected the leaf of another key, found that of the key`);
  require(shared >= depth,
    () => `${at}.other: expected a leaf that shares ${depth} bits with the key, found ${shared}`);
}

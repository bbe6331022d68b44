// The steps of verification, in the order of docs/formats.md ("Proofs").

import { concat, fromHex, littleEndian, toUtf8 } from "./bytes.ts";
import { refuse, require } from "./errors.ts";
import { type ListProof, type StateProof, countedRoot, digest, listLeaf, listRoot, stateRoot } from "./merkle.ts";
import { typeNamed } from "./schema.ts";
import { isSignature } from "./signature.ts";
import { type Value, encode } from "./values.ts";

export interface Validator { node: bigint; account: string; key: string; address: string }
export interface ValidatorSet { validators: Validator[] }
export interface Header {
  version: bigint; chain_id: string; height: bigint; parent: string; timestamp_ms: bigint;
  tx_root: string; receipt_root: string; event_root: string; state_root: string;
  history_root: string; validators_hash: string; batch: string; position: string;
}
export interface Certificate {
  height: bigint; header: string; signatures: { key: string; signature: string }[];
}
export interface CertifiedHeader { header: Header; certificate: Certificate }
export interface SetChange {
  certified: CertifiedHeader; in_force: ValidatorSet; next: ValidatorSet; path: StateProof;
}
export interface SignedTransaction { encoding: "json" | "bincode"; key: string; payload: string; signature: string }
export type RecordProof =
  | { transaction: { transaction: SignedTransaction; place: ListProof } }
  | { receipt: { receipt: string; place: ListProof } }
  | { event: { event: string; place: ListProof } }
  | { state: { key: string; value: string | null; path: StateProof } };
export interface ProofBundle {
  version: bigint; record: RecordProof; ancestor: { header: Header; path: string[] } | null;
  head: CertifiedHeader; set_changes: SetChange[];
}

/** The validators that are trusted: those of the genesis file at height 0, or newer ones. */
export interface TrustedSet { chain_id: string; height: bigint; set: ValidatorSet }

/** A bundle that was checked: the header of the record, and what is trusted from now on. */
export interface Proven { header: Header; reached: TrustedSet }

export const FORMAT_VERSION = 2n;
export const VALIDATORS_MAX = 31;
const SET_CHANGES_MAX = 1024;
const VALIDATOR_SET_KEY = Uint8Array.of(0x60);
const ATTESTATION = toUtf8("lamplighter/attestation/2\0");
const TRANSACTION = toUtf8("lamplighter/transaction/1\0");

function encoded(type: string, value: unknown): Uint8Array {
  return encode(typeNamed(type), value as Value);
}

export function headerHash(header: Header): string {
  return digest(encoded("Header", header));
}

/** The number of signatures that certify: (n + f) / 2 + 1 of n, with f = (n - 1) / 3. */
export function quorum(set: ValidatorSet): number {
  const count = set.validators.length;
  const liars = Math.floor(Math.max(count - 1, 0) / 3);
  return Math.floor((count + liars) / 2) + 1;
}

/** Checks a bundle from a trusted set; the record is not decoded yet. */
export function checkBundle(bundle: ProofBundle, trusted: TrustedSet): Proven {
  require(bundle.version === FORMAT_VERSION,
    () => `version: expected ${FORMAT_VERSION}, found ${bundle.version}`);
  const reached = checkHead(bundle.head, bundle.set_changes, trusted);
  const header = checkAncestor(bundle);
  checkRecord(bundle.record, header);
  return { header, reached };
}

function checkHead(head: CertifiedHeader, changes: SetChange[], trusted: TrustedSet): TrustedSet {
  const { height } = head.header;
  const last = changes.at(-1)?.certified.header.height;
  require(last === undefined || last < height,
    () => `head: expected a height above the last change of the validators, ${last}, found ${height}`);
  require(height > trusted.height || trusted.height === 0n,
    () => `head: expected a height above that of the trusted validators, ${trusted.height}, found ${height}`);
  const reached = follow(changes, trusted);
  checkCertified(head, reached.set, trusted.chain_id, "head");
  return reached;
}

/** Follows the changes above the height of the trusted set, and returns the set they lead to. */
function follow(changes: SetChange[], trusted: TrustedSet): TrustedSet {
  require(changes.length <= SET_CHANGES_MAX,
    () => `set_changes: expected at most ${SET_CHANGES_MAX}, found ${changes.length}`);
  const heights = changes.map((change) => change.certified.header.height);
  heights.forEach((height, n) => require(n === 0 || heights[n - 1]! < height,
    () => `set_changes[${n}]: expected a height above ${heights[n - 1]}, found ${height}`));
  let reached = trusted;
  changes.forEach((change, n) => {
    if (heights[n]! <= trusted.height) return;
    checkChange(change, reached, `set_changes[${n}]`);
    reached = { chain_id: trusted.chain_id, height: heights[n]!, set: change.next };
  });
  return reached;
}

function checkChange(change: SetChange, trusted: TrustedSet, at: string): void {
  const { certified, in_force, next, path } = change;
  checkSize(in_force, `${at}.in_force`);
  checkSize(next, `${at}.next`);
  const signers = new Set(certified.certificate.signatures.map((signed) => signed.key));
  const known = trusted.set.validators.filter((validator) => signers.has(validator.key)).length;
  const needed = quorum(trusted.set);
  require(known >= needed, () => `${at}: expected signatures of ${needed} validators that are `
    + `trusted since height ${trusted.height}, found ${known}`);
  checkCertified(certified, in_force, trusted.chain_id, at);
  const root = stateRoot(VALIDATOR_SET_KEY, encoded("ValidatorSet", next), path, `${at}.path`);
  require(root === certified.header.state_root,
    () => `${at}.next: expected validators in the state ${certified.header.state_root}, found a path to ${root}`);
}

export function checkSize(set: ValidatorSet, at: string): void {
  const count = set.validators.length;
  require(count > 0 && count <= VALIDATORS_MAX,
    () => `${at}: expected 1 to ${VALIDATORS_MAX} validators, found ${count}`);
}

function checkHeader(header: Header, chainId: string, at: string): void {
  require(header.chain_id === chainId,
    () => `${at}.header: expected a header of the chain ${chainId}, found one of ${header.chain_id}`);
  require(header.version === FORMAT_VERSION,
    () => `${at}.header: expected version ${FORMAT_VERSION}, found ${header.version}`);
}

/** Checks that a quorum of the validators in force, which the header names, signed it. */
function checkCertified(certified: CertifiedHeader, inForce: ValidatorSet, chainId: string, at: string): void {
  const { header, certificate } = certified;
  checkHeader(header, chainId, at);
  const set = digest(encoded("ValidatorSet", inForce));
  require(header.validators_hash === set, () => `${at}.header.validators_hash: expected ${set} of the `
    + `validators in force, as far as the proof leads, found ${header.validators_hash}`);
  const hash = headerHash(header);
  require(certificate.header === hash && certificate.height === header.height,
    () => `${at}.certificate: expected one of header ${hash} at height ${header.height}, `
      + `found one of ${certificate.header} at height ${certificate.height}`);
  checkSigners(certificate, inForce, `${at}.certificate`);
  const message = concat(ATTESTATION, littleEndian(header.height, 8), fromHex(hash));
  for (const { key, signature } of certificate.signatures) {
    require(isSignature(key, message, signature),
      () => `${at}.certificate: expected a signature of ${key} on this header, found another`);
  }
}

function checkSigners(certificate: Certificate, inForce: ValidatorSet, at: string): void {
  const keys = certificate.signatures.map((signed) => signed.key);
  const needed = quorum(inForce);
  require(keys.length >= needed && keys.length <= VALIDATORS_MAX,
    () => `${at}: expected ${needed} to ${VALIDATORS_MAX} signatures, found ${keys.length}`);
  keys.forEach((key, n) => require(n === 0 || keys[n - 1]! < key,
    () => `${at}: expected signatures in the order of their keys, each once, found ${key} too late`));
  for (const key of keys) {
    require(inForce.validators.some((validator) => validator.key === key),
      () => `${at}: expected validators in force, found the key ${key}`);
  }
}

/** The header of the record: the head, or one in its history. */
function checkAncestor({ ancestor, head }: ProofBundle): Header {
  if (ancestor === null) return head.header;
  const { header, path } = ancestor;
  checkHeader(header, head.header.chain_id, "ancestor");
  const leaf = listLeaf(fromHex(headerHash(header)));
  const root = listRoot(leaf, header.height, head.header.height, path, "ancestor");
  require(root === head.header.history_root,
    () => `ancestor: expected a header in the history ${head.header.history_root}, found a path to ${root}`);
  return header;
}

function checkRecord(record: RecordProof, header: Header): void {
  if ("state" in record) {
    const { key, value, path } = record.state;
    const bytes = value === null ? null : fromHex(value);
    const root = stateRoot(fromHex(key), bytes, path, "record.state.path");
    require(root === header.state_root,
      () => `record.state: expected a path to the state ${header.state_root}, found one to ${root}`);
  } else if ("transaction" in record) {
    const { transaction, place } = record.transaction;
    checkPlace(encoded("SignedTransaction", transaction), place, header.tx_root, "record.transaction");
    require(isSignature(transaction.key, signedBytes(transaction, header.chain_id), transaction.signature),
      () => `record.transaction.signature: expected one of ${transaction.key}, found another`);
  } else if ("receipt" in record) {
    checkPlace(fromHex(record.receipt.receipt), record.receipt.place, header.receipt_root, "record.receipt");
  } else if ("event" in record) {
    checkPlace(fromHex(record.event.event), record.event.place, header.event_root, "record.event");
  } else {
    refuse("record: expected a transaction, receipt, event or record of the state");
  }
}

function checkPlace(item: Uint8Array, place: ListProof, expected: string, at: string): void {
  const root = countedRoot(item, place, `${at}.place`);
  require(root === expected, () => `${at}: expected a path to the root ${expected}, found one to ${root}`);
}

/** The bytes that the sender of a transaction signed; blake3 of them is its name. */
export function signedBytes(transaction: SignedTransaction, chainId: string): Uint8Array {
  const encoding = Uint8Array.of(transaction.encoding === "json" ? 0 : 1);
  const { key, payload } = transaction;
  return concat(TRANSACTION, fromHex(chainId), fromHex(key), encoding, fromHex(payload));
}

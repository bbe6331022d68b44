// The library: `readGenesis`, perhaps `readTrusted`, then `verify`. Nothing here needs Node.

import { refuse, require, shown } from "./errors.ts";
import { type Json, difference, parseJson } from "./json.ts";
import { digest } from "./merkle.ts";
import {
  type ProofBundle, type TrustedSet, type ValidatorSet, FORMAT_VERSION, checkBundle, checkSize,
} from "./proof.ts";
import { typeNamed } from "./schema.ts";
import { type Statement, statementOf } from "./statement.ts";
import { type Struct, encode, fromJson, readJson } from "./values.ts";

export { VerificationError } from "./errors.ts";
export { canonicalText, parseJson } from "./json.ts";
export type { TrustedSet, Validator, ValidatorSet } from "./proof.ts";
export type { Statement } from "./statement.ts";

/** A file that was verified: what it proves, and the set to trust from now on. */
export interface Verdict { statement: Statement; trusted: TrustedSet }

const FILE_BYTES_MAX = 13 * 1024 * 1024;

/** The validators of a genesis file (JSON), which the caller got from somebody it trusts. */
export function readGenesis(file: Uint8Array): TrustedSet {
  const genesis = readJson("Genesis", file, "tolerant", "genesis") as Struct;
  require(genesis["version"] === FORMAT_VERSION,
    () => `genesis.version: expected ${FORMAT_VERSION}, found ${genesis["version"]}`);
  const set = genesis["validators"] as unknown as ValidatorSet;
  checkSize(set, "genesis.validators");
  return { chain_id: digest(encode(typeNamed("Genesis"), genesis)), height: 0n, set };
}

/** A file of newer validators that its owner keeps, of the ledger with this genesis file. */
export function readTrusted(file: Uint8Array, genesis: TrustedSet): TrustedSet {
  const trusted = readJson("TrustedSet", file, "tolerant", "trusted") as unknown as TrustedSet;
  require(trusted.chain_id === genesis.chain_id,
    () => `trusted.chain_id: expected ${genesis.chain_id}, found ${trusted.chain_id}`);
  checkSize(trusted.set, "trusted.set");
  const same = difference("trusted.set", trusted.set as unknown as Struct, genesis.set as unknown as Struct);
  require(trusted.height > 0n || same === undefined,
    () => "trusted.set: expected the validators of the genesis file at height 0, found others");
  return trusted;
}

/**
 * Checks a file from the trusted validators: a bundle alone, or with the record that it proves
 * beside it. Throws a `VerificationError` at the first thing that does not hold.
 */
export function verify(file: Uint8Array, trusted: TrustedSet): Verdict {
  require(file.length <= FILE_BYTES_MAX,
    () => `proof: expected at most ${FILE_BYTES_MAX} bytes, found ${file.length}`);
  const { record, proof } = split(parseJson(file, "proof"));
  const bundle = fromJson(typeNamed("ProofBundle"), proof, "exact", "proof") as unknown as ProofBundle;
  const proven = checkBundle(bundle, trusted);
  const statement = statementOf(bundle, proven, trusted.height);
  if (record !== undefined) {
    const differing = difference("record", record, statement.record);
    if (differing !== undefined) refuse(differing);
  }
  return { statement, trusted: proven.reached };
}

function split(file: Json): { record: Json | undefined; proof: Json } {
  const proof = file instanceof Map ? file.get("proof") : undefined;
  if (!(file instanceof Map) || proof === undefined) return { record: undefined, proof: file };
  const record = file.get("record");
  if (record === undefined) return refuse('the file: expected "record" beside "proof", found none');
  for (const name of file.keys()) {
    require(name === "proof" || name === "record",
      () => `the file: expected "record" and "proof" alone, found "${shown(name)}"`);
  }
  return { record, proof };
}

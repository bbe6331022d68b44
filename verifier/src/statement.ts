// What a checked bundle says: the record, decoded from the proven bytes alone, its name, its block,
// and who signed.

import { fromHex, fromUtf8, toHex } from "./bytes.ts";
import { refuse, require } from "./errors.ts";
import { digest } from "./merkle.ts";
import {
  type CertifiedHeader, type Proven, type ProofBundle, type SignedTransaction, type ValidatorSet,
  headerHash, signedBytes,
} from "./proof.ts";
import { type Field, type Table, TABLES, typeNamed } from "./schema.ts";
import { type Struct, type Value, decode, isDistrict, isId, readJson } from "./values.ts";

const PAYLOAD_BYTES_MAX = 256 * 1024;

/** Has the members of `lamplighter --output json audit verify`. */
export interface Statement {
  [name: string]: Value;
  kind: string;
  /** The decoded record; null if its absence is proven. */
  record: Value;
  height: bigint;
  time_ms: bigint;
  head: string;
  head_height: bigint;
  head_time_ms: bigint;
  signers: Value[];
  trusted_height: bigint;
  set_changes: Value[];
}

/** Decodes the record of a bundle that was checked from the set trusted since `trustedHeight`. */
export function statementOf(bundle: ProofBundle, proven: Proven, trustedHeight: bigint): Statement {
  const { header } = proven;
  const head = bundle.head.header;
  const newer = bundle.set_changes.filter((c) => c.certified.header.height > trustedHeight);
  return {
    ...recordOf(bundle, header.chain_id),
    height: header.height,
    time_ms: header.timestamp_ms,
    head: headerHash(head),
    head_height: head.height,
    head_time_ms: head.timestamp_ms,
    signers: signers(bundle.head, proven.reached.set),
    trusted_height: trustedHeight,
    set_changes: newer.map(({ certified, in_force }) => ({
      height: certified.header.height,
      time_ms: certified.header.timestamp_ms,
      signers: signers(certified, in_force),
    })),
  };
}

type Named = { kind: string; of?: Value; record: Value };

function recordOf({ record }: ProofBundle, chainId: string): Named {
  if ("state" in record) return stateRecord(record.state.key, record.state.value);
  if ("transaction" in record) {
    const { transaction, place } = record.transaction;
    const name = digest(signedBytes(transaction, chainId));
    const of = { transaction: name, key: transaction.key, index: place.index };
    return { kind: "transaction", of, record: payloadOf(transaction) };
  }
  if ("receipt" in record) {
    const { receipt, place } = record.receipt;
    const decoded = decode(typeNamed("Receipt"), fromHex(receipt), "record.receipt.receipt") as Struct;
    return { kind: "receipt", of: { transaction: decoded["transaction"]!, index: place.index }, record: decoded };
  }
  const { event, place } = record.event;
  const decoded = decode(typeNamed("EventRecord"), fromHex(event), "record.event.event") as Struct;
  const { device, sequence } = decoded["event"] as Struct;
  return { kind: "event", of: { device: device!, sequence: sequence!, index: place.index }, record: decoded };
}

function payloadOf({ encoding, payload }: SignedTransaction): Value {
  const [bytes, at] = [fromHex(payload), "record.transaction.transaction.payload"];
  require(bytes.length <= PAYLOAD_BYTES_MAX,
    () => `${at}: expected at most ${PAYLOAD_BYTES_MAX} bytes, found ${bytes.length}`);
  if (encoding === "json") return readJson("Transaction", bytes, "tolerant", at);
  return decode(typeNamed("Transaction"), bytes, at);
}

function stateRecord(key: string, value: string | null): Named {
  const { table, parts } = readKey(fromHex(key));
  const at = `record.state.value (${table.kind})`;
  const record = value === null ? null : decode(table.record, fromHex(value), at);
  return { kind: table.kind, ...(table.parts.length > 0 ? { of: parts } : {}), record };
}

/** The table of a key, and the parts by which it names the record. */
export function readKey(key: Uint8Array): { table: Table; parts: Struct } {
  const table = TABLES.find((known) => known.byte === key[0]);
  if (table === undefined) return refuse(`record.state.key: expected a known table, found ${toHex(key)}`);
  const reader = new KeyReader(key);
  const parts: Struct = Object.create(null);
  for (const part of table.parts) parts[part.name] = reader.part(part);
  reader.end();
  return { table, parts };
}

class KeyReader {
  private at = 1;
  private readonly key: Uint8Array;

  constructor(key: Uint8Array) {
    this.key = key;
  }

  private fail(expected: string): never {
    return refuse(`record.state.key, byte ${this.at}: expected ${expected}, found ${toHex(this.key)}`);
  }

  private take(count: number): Uint8Array {
    if (count > this.key.length - this.at) this.fail(`${count} more bytes`);
    this.at += count;
    return this.key.subarray(this.at - count, this.at);
  }

  end(): void {
    if (this.at < this.key.length) this.fail("the end of the key");
  }

  part({ name, type }: Field): Value {
    switch (type.kind) {
      case "id": return this.id();
      case "text": return this.text();
      case "u64": return this.take(8).reduce((number, byte) => number << 8n | BigInt(byte), 0n);
      case "digest": case "key": return toHex(this.take(32));
      case "bytes": return toHex(this.take(this.key.length - this.at));
      case "district": return this.levels();
      default: return name === "target" ? this.target() : this.fail(`a part ${name}`);
    }
  }

  /** Text up to its zero byte; in it 01 01 stands for 00, and 01 02 for 01. */
  private text(): string {
    const bytes: number[] = [];
    for (;;) {
      const byte = this.take(1)[0]!;
      if (byte === 0) return fromUtf8(Uint8Array.from(bytes), "record.state.key");
      const escaped = byte === 1 ? this.take(1)[0]! - 1 : byte;
      if (byte === 1 && (escaped < 0 || escaped > 1)) this.fail("01 or 02 after 01");
      bytes.push(escaped);
    }
  }

  private id(): string {
    const text = this.text();
    return isId(text) ? text : this.fail("an id");
  }

  private district(text: string): string {
    return isDistrict(text) ? text : this.fail("a district");
  }

  /** A text for each level, then an empty one. */
  private levels(): string {
    const levels: string[] = [];
    for (let level = this.text(); level !== ""; level = this.text()) {
      // Two levels in one text would be a second key of the same district.
      if (level.includes("/")) this.fail("one level of a district");
      levels.push(level);
    }
    return this.district(levels.join("/"));
  }

  private target(): Value {
    const kind = this.take(1)[0];
    if (kind === 0) return "fleet";
    if (kind === 1) return { model: { model: this.text() } };
    if (kind === 2) return { district: { district: this.district(this.text()) } };
    if (kind === 3) return { device: { device: this.id() } };
    return this.fail("a target from 00 to 03");
  }
}

/** The validators that signed, in the order of their nodes. */
function signers(certified: CertifiedHeader, inForce: ValidatorSet): Value[] {
  const found = certified.certificate.signatures.flatMap(({ key }) => {
    const validator = inForce.validators.find((known) => known.key === key);
    return validator === undefined ? [] : [validator];
  });
  found.sort((a, b) => (a.node < b.node ? -1 : a.node > b.node ? 1 : 0));
  return found.map(({ node, account, key }) => ({ node, account, key }));
}

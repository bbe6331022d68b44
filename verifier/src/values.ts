// Values of the types of docs/formats.md: their JSON form and their binary encoding. A value is
// kept in its JSON form, so that what is printed is what was decoded: bytes are hexadecimal text,
// numbers are bigints, an optional value is null if there is none.

import {
  compareUtf8, concat, fromHex, fromUtf8, isHex, littleEndian, toHex, toUtf8,
} from "./bytes.ts";
import { refuse, require, shown } from "./errors.ts";
import { type Json, type Printable, canonicalText, parseJson } from "./json.ts";
import { type Basic, type Field, type Type, type Variant, typeNamed } from "./schema.ts";

export type Value = Printable;
export type Struct = { [name: string]: Value };

const LENGTHS = { digest: 32, key: 32, signature: 64 } as const;
const BITS = { u8: 8, u32: 32, u64: 64 } as const;
const ID = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const DISTRICT_BYTES_MAX = 160;
const DISTRICT_PARTS_MAX = 6;
const VERSION = /^(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})$/;
const NUMBER_32_MAX = 2n ** 32n - 1n;
const SIXTEEN = 16;

/** How a JSON value is read: in its one form, or with what transactions may do differently. */
export type Reading = "exact" | "tolerant";

export function isId(text: string): boolean {
  return ID.test(text);
}

export function isDistrict(text: string): boolean {
  const parts = text.split("/");
  return text === "" || text.length <= DISTRICT_BYTES_MAX && parts.length <= DISTRICT_PARTS_MAX
    && parts.every(isId);
}

function isVersion(text: string): boolean {
  return VERSION.test(text) && text.split(".").every((part) => BigInt(part) <= NUMBER_32_MAX);
}

function checkText(kind: Basic, text: string, at: string): string {
  const expected = (what: string): never =>
    refuse(`${at}: expected ${what}, found "${shown(text)}"`);
  if (kind === "id" && !isId(text)) expected("an id");
  if (kind === "district" && !isDistrict(text)) expected("a district");
  if (kind === "version" && !isVersion(text)) expected("a version such as 1.4.0");
  return text;
}

function describe(json: Json): string {
  if (json instanceof Map) return "an object";
  if (Array.isArray(json)) return "a list";
  return shown(canonicalText(json));
}

/** The value of a type whose JSON form `json` is. */
export function fromJson(type: Type, json: Json, reading: Reading, at: string): Value {
  switch (type.kind) {
    case "named": return fromJson(typeNamed(type.name), json, reading, at);
    case "optional": return json === null ? null : fromJson(type.of, json, reading, at);
    case "list": return listOf(json, at).map((item, n) => fromJson(type.of, item, reading, `${at}[${n}]`));
    case "sixteen": return sized(json, SIXTEEN, at)
      .map((item, n) => fromJson(type.of, item, reading, `${at}[${n}]`));
    case "tuple": return sized(json, type.of.length, at)
      .map((item, n) => fromJson(type.of[n]!, item, reading, `${at}[${n}]`));
    case "struct": return structFromJson(type.fields, json, reading, at);
    case "enum": return enumFromJson(type.variants, json, reading, at);
    default: return basicFromJson(type.kind, json, reading, at);
  }
}

function listOf(json: Json, at: string): Json[] {
  return Array.isArray(json) ? json : refuse(`${at}: expected a list, found ${describe(json)}`);
}

function sized(json: Json, length: number, at: string): Json[] {
  const items = listOf(json, at);
  require(items.length === length,
    () => `${at}: expected a list of ${length}, found ${items.length} items`);
  return items;
}

function structFromJson(fields: Field[], json: Json, reading: Reading, at: string): Struct {
  const value: Struct = Object.create(null);
  if (Array.isArray(json) && reading === "tolerant") {
    const items = sized(json, fields.length, at);
    fields.forEach(({ name, type }, n) => {
      value[name] = fromJson(type, items[n]!, reading, `${at}.${name}`);
    });
    return value;
  }
  if (!(json instanceof Map)) return refuse(`${at}: expected an object, found ${describe(json)}`);
  for (const name of json.keys()) {
    require(fields.some((field) => field.name === name),
      () => `${at}: expected the members ${fields.map((f) => f.name).join(", ")}, found "${shown(name)}"`);
  }
  for (const { name, type } of fields) {
    let member = json.get(name);
    if (member === undefined && reading === "tolerant" && type.kind === "optional") member = null;
    if (member === undefined) return refuse(`${at}: expected the member "${name}", found none`);
    value[name] = fromJson(type, member, reading, `${at}.${name}`);
  }
  return value;
}

function enumFromJson(variants: Variant[], json: Json, reading: Reading, at: string): Value {
  const names = (): string => variants.map((variant) => variant.name).join(", ");
  const [name, content] = typeof json === "string" ? [json, undefined]
    : json instanceof Map && json.size === 1 ? [...json.entries()][0]!
    : refuse(`${at}: expected one of ${names()}, found ${describe(json)}`);
  const variant = variants.find((known) => known.name === name);
  if (variant === undefined) return refuse(`${at}: expected one of ${names()}, found "${shown(name)}"`);
  if (variant.content === undefined) {
    const none = content === undefined || content === null && reading === "tolerant";
    return none ? name : refuse(`${at}.${name}: expected no content, found ${describe(content)}`);
  }
  if (content === undefined) return refuse(`${at}: expected content of ${name}, found none`);
  return single(name, fromJson(variant.content, content, reading, `${at}.${name}`));
}

function single(name: string, content: Value): Struct {
  const value: Struct = Object.create(null);
  value[name] = content;
  return value;
}

function basicFromJson(kind: Basic, json: Json, reading: Reading, at: string): Value {
  const expected = (what: string): never => refuse(`${at}: expected ${what}, found ${describe(json)}`);
  switch (kind) {
    case "u8": case "u32": case "u64":
      if (typeof json === "bigint" && json >= 0n && json >> BigInt(BITS[kind]) === 0n) return json;
      return expected(`a number of ${BITS[kind]} bits`);
    case "bool": return typeof json === "boolean" ? json : expected("true or false");
    case "bytes": return typeof json === "string" && isHex(json) ? json : expected("lower-case hexadecimal text");
    case "digest": case "key": case "signature":
      if (Array.isArray(json) && reading === "tolerant") return fixedFromList(LENGTHS[kind], json, at);
      if (typeof json === "string" && json.length === 2 * LENGTHS[kind] && isHex(json)) return json;
      return expected(`${2 * LENGTHS[kind]} lower-case hexadecimal digits`);
    case "map": return mapFromJson(json, at);
    default: return typeof json === "string" ? checkText(kind, json, at) : expected("a text");
  }
}

/** Fixed bytes as the list of their 64-bit numbers, which transactions in JSON may have. */
function fixedFromList(length: number, json: Json[], at: string): string {
  const words = sized(json, length / 8, at)
    .map((word, n) => basicFromJson("u64", word, "tolerant", `${at}[${n}]`));
  return toHex(concat(...words.map((word) => littleEndian(word as bigint, 8))));
}

function mapFromJson(json: Json, at: string): Value {
  if (!(json instanceof Map)) return refuse(`${at}: expected an object, found ${describe(json)}`);
  for (const [name, text] of json) {
    require(typeof text === "string", () => `${at}: expected a text under "${shown(name)}"`);
  }
  return json as Map<string, Value>;
}

/** The binary encoding of a value that `fromJson` or `decode` returned for this type. */
export function encode(type: Type, value: Value): Uint8Array {
  const parts: Uint8Array[] = [];
  write(type, value, parts);
  return concat(...parts);
}

function write(type: Type, value: Value, out: Uint8Array[]): void {
  switch (type.kind) {
    case "named": return write(typeNamed(type.name), value, out);
    case "optional":
      out.push(Uint8Array.of(value === null ? 0 : 1));
      return value === null ? undefined : write(type.of, value, out);
    case "list":
      out.push(littleEndian(BigInt((value as Value[]).length), 8));
      return (value as Value[]).forEach((item) => write(type.of, item, out));
    case "sixteen": return (value as Value[]).forEach((item) => write(type.of, item, out));
    case "tuple": return (value as Value[]).forEach((item, n) => write(type.of[n]!, item, out));
    case "struct": return type.fields.forEach((f) => write(f.type, (value as Struct)[f.name]!, out));
    case "enum": return writeVariant(type.variants, value, out);
    default: return writeBasic(type.kind, value, out);
  }
}

function writeVariant(variants: Variant[], value: Value, out: Uint8Array[]): void {
  const name = typeof value === "string" ? value : Object.keys(value as Struct)[0];
  const place = variants.findIndex((variant) => variant.name === name);
  out.push(littleEndian(BigInt(place), 4));
  const content = variants[place]?.content;
  if (content !== undefined) write(content, (value as Struct)[name!]!, out);
}

function writeBasic(kind: Basic, value: Value, out: Uint8Array[]): void {
  const lengthened = (bytes: Uint8Array): void => {
    out.push(littleEndian(BigInt(bytes.length), 8), bytes);
  };
  switch (kind) {
    case "u8": case "u32": case "u64":
      out.push(littleEndian(value as bigint, BITS[kind] / 8));
      return;
    case "bool":
      out.push(Uint8Array.of(value === true ? 1 : 0));
      return;
    case "digest": case "key": case "signature":
      out.push(fromHex(value as string));
      return;
    case "bytes": return lengthened(fromHex(value as string));
    case "version":
      for (const part of (value as string).split(".")) out.push(littleEndian(BigInt(part), 4));
      return;
    case "map": {
      const texts = [...(value as Map<string, string>)].sort(([a], [b]) => compareUtf8(a, b));
      out.push(littleEndian(BigInt(texts.length), 8));
      return texts.flat().forEach((text) => lengthened(toUtf8(text)));
    }
    default: return lengthened(toUtf8(value as string));
  }
}

/** Takes bytes from the beginning of a text, never more than there are. */
class Input {
  private at = 0;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  take(count: bigint, at: string): Uint8Array {
    const left = this.bytes.length - this.at;
    require(count <= BigInt(left), () => `${at}: expected ${count} bytes, found ${left}`);
    const start = this.at;
    this.at += Number(count);
    return this.bytes.subarray(start, this.at);
  }

  number(size: number, at: string): bigint {
    return this.take(BigInt(size), at).reduceRight((number, byte) => number << 8n | BigInt(byte), 0n);
  }

  sized(at: string): Uint8Array {
    return this.take(this.number(8, at), at);
  }

  end(at: string): void {
    const left = this.bytes.length - this.at;
    require(left === 0, () => `${at}: expected its end, found ${left} more bytes`);
  }
}

/** The value of a type that the bytes encode, all of them. */
export function decode(type: Type, bytes: Uint8Array, at: string): Value {
  const input = new Input(bytes);
  const value = read(type, input, at);
  input.end(at);
  return value;
}

function read(type: Type, input: Input, at: string): Value {
  switch (type.kind) {
    case "named": return read(typeNamed(type.name), input, at);
    case "optional": return flag(input, at) ? read(type.of, input, at) : null;
    case "list": return readMany(input.number(8, at), type.of, input, at);
    case "sixteen": return readMany(BigInt(SIXTEEN), type.of, input, at);
    case "tuple": return type.of.map((of, n) => read(of, input, `${at}[${n}]`));
    case "struct": {
      const value: Struct = Object.create(null);
      for (const field of type.fields) value[field.name] = read(field.type, input, `${at}.${field.name}`);
      return value;
    }
    case "enum": return readVariant(type.variants, input, at);
    default: return readBasic(type.kind, input, at);
  }
}

function flag(input: Input, at: string): boolean {
  const byte = input.number(1, at);
  require(byte <= 1n, () => `${at}: expected the byte 0 or 1, found ${byte}`);
  return byte === 1n;
}

function readMany(count: bigint, of: Type, input: Input, at: string): Value[] {
  const items: Value[] = [];
  while (BigInt(items.length) < count) items.push(read(of, input, `${at}[${items.length}]`));
  return items;
}

function readVariant(variants: Variant[], input: Input, at: string): Value {
  const place = input.number(4, at);
  const variant = variants[Number(place)];
  if (variant === undefined) {
    return refuse(`${at}: expected a variant from 0 to ${variants.length - 1}, found ${place}`);
  }
  const { name, content } = variant;
  return content === undefined ? name : single(name, read(content, input, `${at}.${name}`));
}

function readBasic(kind: Basic, input: Input, at: string): Value {
  switch (kind) {
    case "u8": case "u32": case "u64": return input.number(BITS[kind] / 8, at);
    case "bool": return flag(input, at);
    case "digest": case "key": case "signature": return toHex(input.take(BigInt(LENGTHS[kind]), at));
    case "bytes": return toHex(input.sized(at));
    case "version": return [4, 4, 4].map((size) => input.number(size, at)).join(".");
    case "map": return readMap(input, at);
    default: return checkText(kind, fromUtf8(input.sized(at), at), at);
  }
}

/** Pairs of texts, in the order of the first ones' bytes, each once. */
function readMap(input: Input, at: string): Value {
  const map = new Map<string, Value>();
  let before: string | undefined;
  for (let left = input.number(8, at); left > 0n; left -= 1n) {
    const name = fromUtf8(input.sized(at), at);
    const ordered = before === undefined || compareUtf8(before, name) < 0;
    require(ordered, () => `${at}: expected names in the order of their bytes, found "${shown(name)}"`);
    before = name;
    map.set(name, fromUtf8(input.sized(at), `${at}.${shown(name)}`));
  }
  return map;
}

/** The value of a named type whose JSON text the bytes are. */
export function readJson(name: string, bytes: Uint8Array, reading: Reading, at: string): Value {
  return fromJson(typeNamed(name), parseJson(bytes, at), reading, at);
}

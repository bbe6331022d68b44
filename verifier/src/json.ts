// JSON as the ledger reads it ("JSON" in docs/formats.md): whole numbers of 64 bits, no name twice
// in an object, bounded nesting. `JSON.parse` loses digits above 2^53 and the first of two equal
// names, so that two readers could see two files.

import { compareUtf8, fromUtf8 } from "./bytes.ts";
import { refuse, shown } from "./errors.ts";

export type Json = null | boolean | bigint | string | Json[] | Map<string, Json>;

const DEPTH_MAX = 127;
const NUMBER_MIN = -(2n ** 63n);
const NUMBER_MAX = 2n ** 64n - 1n;
const NUMBER_DIGITS_MAX = 20;

/** Characters of a text that stand for themselves. */
const PLAIN = /[^"\\\x00-\x1f]*/y;

const DIGITS = /[0-9]*/y;

const ESCAPES: Record<string, string> = {
  '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t",
};

/** Reads one JSON text; `of` names it in errors. */
export function parseJson(bytes: Uint8Array, of: string): Json {
  const parser = new Parser(fromUtf8(bytes, of), of);
  const value = parser.value(0);
  parser.end();
  return value;
}

class Parser {
  private at = 0;
  private readonly text: string;
  private readonly of: string;

  constructor(text: string, of: string) {
    this.text = text;
    this.of = of;
  }

  private fail(expected: string, at = this.at): never {
    const next = this.text.slice(at, at + 12);
    const found = next === "" ? "the end" : `"${shown(next)}"`;
    return refuse(`${this.of}, character ${at}: expected ${expected}, found ${found}`);
  }

  private skipSpace(): void {
    while (" \t\n\r".includes(this.text.charAt(this.at)) && this.at < this.text.length) {
      this.at += 1;
    }
  }

  private skip(character: string): boolean {
    const found = this.text.charAt(this.at) === character;
    if (found) this.at += 1;
    return found;
  }

  private expect(character: string): void {
    if (!this.skip(character)) this.fail(`'${character}'`);
  }

  end(): void {
    this.skipSpace();
    if (this.at < this.text.length) this.fail("nothing after the value");
  }

  value(depth: number): Json {
    this.skipSpace();
    const next = this.text.charAt(this.at);
    if ((next === "{" || next === "[") && depth >= DEPTH_MAX) {
      this.fail(`at most ${DEPTH_MAX} objects and lists within each other`);
    }
    if (next === "{") return this.object(depth + 1);
    if (next === "[") return this.list(depth + 1);
    if (next === '"') return this.string();
    if (next === "-" || /^[0-9]$/.test(next)) return this.number();
    for (const [word, value] of [["null", null], ["true", true], ["false", false]] as const) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.fail("a value");
  }

  private object(depth: number): Json {
    this.expect("{");
    const members = new Map<string, Json>();
    this.skipSpace();
    if (this.skip("}")) return members;
    for (;;) {
      this.skipSpace();
      const nameAt = this.at;
      if (this.text.charAt(this.at) !== '"') this.fail("the name of a member");
      const name = this.string();
      this.skipSpace();
      this.expect(":");
      const value = this.value(depth);
      if (members.has(name)) this.fail("each name once in its object", nameAt);
      members.set(name, value);
      this.skipSpace();
      if (!this.skip(",")) {
        this.expect("}");
        return members;
      }
    }
  }

  private list(depth: number): Json {
    this.expect("[");
    const items: Json[] = [];
    this.skipSpace();
    if (this.skip("]")) return items;
    for (;;) {
      items.push(this.value(depth));
      this.skipSpace();
      if (!this.skip(",")) {
        this.expect("]");
        return items;
      }
    }
  }

  private number(): bigint {
    const start = this.at;
    const negative = this.skip("-");
    const digitsAt = this.at;
    DIGITS.lastIndex = this.at;
    DIGITS.test(this.text);
    this.at = DIGITS.lastIndex;
    const digits = this.text.slice(digitsAt, this.at);
    const leadingZero = digits.startsWith("0") && (digits.length > 1 || negative);
    if (digits === "" || leadingZero || /^[.eE]$/.test(this.text.charAt(this.at))) {
      this.fail("a whole number without leading zero, fraction or exponent", start);
    }
    const number = digits.length > NUMBER_DIGITS_MAX ? undefined : BigInt(digits);
    const signed = number !== undefined && negative ? -number : number;
    if (signed === undefined || signed < NUMBER_MIN || signed > NUMBER_MAX) {
      this.fail("a number of 64 bits", start);
    }
    return signed;
  }

  private string(): string {
    this.expect('"');
    let text = "";
    for (;;) {
      const start = this.at;
      PLAIN.lastIndex = this.at;
      PLAIN.test(this.text);
      this.at = PLAIN.lastIndex;
      text += this.text.slice(start, this.at);
      if (this.skip('"')) return text;
      if (this.text.charAt(this.at) !== "\\") {
        this.fail(this.at < this.text.length ? "an escape for a control character" : "'\"'");
      }
      text += this.escape();
    }
  }

  private escape(): string {
    this.expect("\\");
    const next = this.text.charAt(this.at);
    if (next === "u") return this.unicode();
    const character = Object.hasOwn(ESCAPES, next) ? ESCAPES[next] : undefined;
    if (character === undefined) return this.fail("a known escape");
    this.at += 1;
    return character;
  }

  /** One character as `uXXXX`, or as two such that are a surrogate pair. */
  private unicode(): string {
    const start = this.at;
    const first = this.unit();
    if (first < 0xd800 || first > 0xdfff) return String.fromCharCode(first);
    if (first < 0xdc00 && this.skip("\\")) {
      const second = this.unit();
      if (second >= 0xdc00 && second <= 0xdfff) return String.fromCharCode(first, second);
    }
    return this.fail("an escape that stands for a character", start);
  }

  private unit(): number {
    const digits = this.text.slice(this.at + 1, this.at + 5);
    if (this.text.charAt(this.at) !== "u" || !/^[0-9a-fA-F]{4}$/.test(digits)) {
      this.fail("'u' and four hexadecimal digits");
    }
    this.at += 5;
    return Number.parseInt(digits, 16);
  }
}

/** Anything that has a JSON text: what was parsed, and values of the types. */
export type Printable =
  null | boolean | bigint | string | Printable[] | Map<string, Printable> | { [name: string]: Printable };

export function membersOf(value: Printable): Map<string, Printable> | undefined {
  if (value instanceof Map) return value;
  if (value === null || typeof value !== "object" || Array.isArray(value)) return undefined;
  return new Map(Object.entries(value));
}

/** The JSON text with the names of each object in the order of their bytes and without spaces. */
export function canonicalText(value: Printable): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  if (typeof value === "bigint") return value.toString();
  const members = membersOf(value);
  if (members === undefined) return JSON.stringify(value);
  const names = [...members.keys()].sort(compareUtf8);
  const parts = names.map((name) => `${JSON.stringify(name)}:${canonicalText(members.get(name)!)}`);
  return `{${parts.join(",")}}`;
}

/** The first place at which two values differ, with both values; none if they are equal. */
export function difference(at: string, stated: Printable, proven: Printable): string | undefined {
  const [left, right] = [canonicalText(stated), canonicalText(proven)];
  if (left === right) return undefined;
  const [a, b] = [membersOf(stated), membersOf(proven)];
  for (const name of a && b ? new Set([...a.keys(), ...b.keys()]) : []) {
    const inner = difference(`${at}.${shown(name)}`, a?.get(name) ?? null, b?.get(name) ?? null);
    if (inner !== undefined) return inner;
  }
  return `${at}: expected ${shown(right)}, which is proven, found ${shown(left)}`;
}

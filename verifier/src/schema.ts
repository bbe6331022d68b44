// The language of `TYPES`, read once: `struct`, `enum` and `key` lines become a `Type` by name.

import { TYPES } from "./types.ts";

export type Basic = "u8" | "u32" | "u64" | "bool" | "text" | "id" | "district" | "version"
  | "digest" | "key" | "signature" | "bytes" | "map";

export type Type =
  | { kind: Basic }
  | { kind: "optional" | "list" | "sixteen"; of: Type }
  | { kind: "tuple"; of: Type[] }
  | { kind: "struct"; name: string; fields: Field[] }
  | { kind: "enum"; name: string; variants: Variant[] }
  | { kind: "named"; name: string };

export interface Field { name: string; type: Type }
export interface Variant { name: string; content?: Type }

/** A table of the state: the first byte of its keys, their parts, and its records. */
export interface Table { byte: number; kind: string; parts: Field[]; record: Type }

const BASIC = new Set<string>(["u8", "u32", "u64", "bool", "text", "id", "district", "version",
  "digest", "key", "signature", "bytes", "map"]);

class Reader {
  readonly types = new Map<string, Type>();
  readonly tables: Table[] = [];
  private readonly tokens: string[];
  private at = 0;

  constructor(text: string) {
    this.tokens = text.replace(/#[^\n]*/g, "").match(/\w+|[{}(),:]/g) ?? [];
    while (this.at < this.tokens.length) this.definition();
  }

  private take(): string {
    this.at += 1;
    return this.tokens[this.at - 1] ?? "";
  }

  private skip(token: string): boolean {
    const found = this.tokens[this.at] === token;
    if (found) this.at += 1;
    return found;
  }

  private expect(token: string): void {
    if (!this.skip(token)) throw new Error(`types: expected ${token}, found ${this.take()}`);
  }

  private definition(): void {
    const [word, name] = [this.take(), this.take()];
    if (word === "struct") this.types.set(name, { kind: "struct", name, fields: this.fields() });
    else if (word === "enum") this.types.set(name, { kind: "enum", name, variants: this.variants() });
    else if (word === "key") this.table(Number.parseInt(name, 16));
    else throw new Error(`types: a definition cannot begin with ${word}`);
  }

  private table(byte: number): void {
    const kind = this.take();
    const parts = this.tokens[this.at] === "{" ? this.fields() : [];
    this.expect(":");
    this.tables.push({ byte, kind, parts, record: this.type() });
  }

  /** Items in braces, with commas between them and perhaps after the last. */
  private items<T>(read: () => T): T[] {
    const items: T[] = [];
    this.expect("{");
    while (!this.skip("}")) {
      items.push(read());
      if (!this.skip(",") && this.tokens[this.at] !== "}") this.expect("}");
    }
    return items;
  }

  private fields(): Field[] {
    return this.items(() => {
      const name = this.take();
      this.expect(":");
      return { name, type: this.type() };
    });
  }

  private variants(): Variant[] {
    return this.items(() => {
      const name = this.take();
      const next = this.tokens[this.at];
      if (next === "," || next === "}") return { name };
      if (next !== "{") return { name, content: this.type() };
      return { name, content: { kind: "struct", name, fields: this.fields() } };
    });
  }

  private type(): Type {
    const word = this.take();
    if (word === "optional" || word === "list" || word === "sixteen") {
      return { kind: word, of: this.type() };
    }
    if (word === "(") {
      const of = [this.type()];
      while (this.skip(",")) of.push(this.type());
      this.expect(")");
      return { kind: "tuple", of };
    }
    return BASIC.has(word) ? { kind: word as Basic } : { kind: "named", name: word };
  }
}

const read = new Reader(TYPES);

export const TABLES: readonly Table[] = read.tables;

/** The type with a name; it is an error of this program if there is none. */
export function typeNamed(name: string): Type {
  const type = read.types.get(name);
  if (type === undefined) throw new Error(`types: there is no ${name}`);
  return type;
}

/** The names of all types. */
export function typeNames(): string[] {
  return [...read.types.keys()];
}

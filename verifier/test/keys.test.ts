import assert from "node:assert/strict";
import { test } from "node:test";

import { fromHex, toHex, toUtf8 } from "../src/bytes.ts";
import { VerificationError } from "../src/index.ts";
import { canonicalText } from "../src/json.ts";
import { readKey } from "../src/statement.ts";

const key = (table: string, text: string): Uint8Array => fromHex(table + toHex(toUtf8(text)));

test("a key is read as its table and its parts", () => {
  const read = (bytes: Uint8Array): string => {
    const { table, parts } = readKey(bytes);
    return `${table.kind} ${canonicalText(parts as never)}`;
  };
  assert.equal(read(key("10", "lamp-1\0")), 'device {"device":"lamp-1"}');
  assert.equal(read(key("13", "north\0harbour\0\0lamp-1\0")),
    'device_by_district {"device":"lamp-1","district":"north/harbour"}');
  assert.equal(read(key("13", "\0lamp-1\0")), 'device_by_district {"device":"lamp-1","district":""}');
  assert.equal(read(key("17", "a\x01\x01b\x01\x02c\0")), 'registrant_link {"registrant":"a\\u0000b\\u0001c"}');
});

test("a second key of the same name is refused", () => {
  const refused: [string, string, RegExp][] = [
    ["13", "north/harbour\0\0lamp-1\0", /expected one level of a district/],
    ["13", "north\0quay/1\0\0lamp-1\0", /expected one level of a district/],
    ["10", "lamp-1\0\0", /expected the end of the key/],
    ["10", "\x01\x03\0", /expected 01 or 02 after 01/],
    ["10", "Lamp-1\0", /expected an id/],
  ];
  for (const [table, text, reason] of refused) {
    assert.throws(() => readKey(key(table, text)),
      (error) => error instanceof VerificationError && reason.test(error.message), text);
  }
});

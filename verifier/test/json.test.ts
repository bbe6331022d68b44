import assert from "node:assert/strict";
import { test } from "node:test";

import { toUtf8 } from "../src/bytes.ts";
import { VerificationError, canonicalText, parseJson } from "../src/index.ts";

const read = (text: string): string => canonicalText(parseJson(toUtf8(text), "text"));

test("numbers keep all their digits", () => {
  assert.equal(read("[9007199254740993, 18446744073709551615, -9223372036854775808, 0]"),
    "[9007199254740993,18446744073709551615,-9223372036854775808,0]");
});

test("names are read once, in any order", () => {
  assert.equal(read(' { "b" : null, "__proto__" : true, "a" : "\\ud83d\\ude00\\u0061" } '),
    '{"__proto__":true,"a":"😀a","b":null}');
});

test("texts that another reader may take are refused, with the reason", () => {
  const refused: [string, RegExp][] = [
    ['{"a":1,"a":2}', /character 7: expected each name once in its object, found ""a":2}"/],
    ['{"a":1,"\\u0061":2}', /each name once/],
    ["1.0", /whole number/], ["1e3", /whole number/], ["-0", /whole number/], ["01", /whole number/],
    ["18446744073709551616", /64 bits/], ["-9223372036854775809", /64 bits/], ["9".repeat(9999), /64 bits/],
    ["{} {}", /nothing after the value/], ["", /a value, found the end/], ["nul", /a value/],
    ["[1,]", /a value/], ['{"a":1,}', /name of a member/], ["{a:1}", /name of a member/],
    ['"\u0001"', /escape for a control character/], ['"\\x"', /known escape/], ['"a', /'"', found the end/],
    ['"\\ud800"', /stands for a character/], ['"\\udc00"', /stands for a character/],
    ['"\\ud800\\u0061"', /stands for a character/], ["\ufeff{}", /a value/],
    ["[".repeat(128), /at most 127/],
  ];
  for (const [text, reason] of refused) {
    assert.throws(() => read(text), (error) => error instanceof VerificationError && reason.test(error.message), text);
  }
  assert.throws(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22), "text"), /text: expected UTF-8/);
  assert.equal(read("[".repeat(127) + "]".repeat(127)), "[".repeat(127) + "]".repeat(127));
});

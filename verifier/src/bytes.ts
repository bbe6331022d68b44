import { refuse } from "./errors.ts";

const DIGITS = "0123456789abcdef";

/** The bytes as lower-case hexadecimal text. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += DIGITS.charAt(byte >> 4) + DIGITS.charAt(byte & 15);
  return text;
}

/** True if the text is lower-case hexadecimal with two digits a byte. */
export function isHex(text: string): boolean {
  return text.length % 2 === 0 && /^[0-9a-f]*$/.test(text);
}

/** The bytes of a text that `isHex` has accepted. */
export function fromHex(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length / 2);
  for (let at = 0; at < bytes.length; at += 1) {
    bytes[at] = DIGITS.indexOf(text.charAt(2 * at)) << 4 | DIGITS.indexOf(text.charAt(2 * at + 1));
  }
  return bytes;
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function toUtf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The text of bytes that must be UTF-8; a byte order mark is an ordinary character. */
export function fromUtf8(bytes: Uint8Array, at: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse(`${at}: expected UTF-8, found other bytes`);
  }
}

/** The order of two texts by the bytes of their UTF-8. */
export function compareUtf8(left: string, right: string): number {
  const [a, b] = [toUtf8(left), toUtf8(right)];
  for (let at = 0; at < Math.min(a.length, b.length); at += 1) {
    const difference = a[at]! - b[at]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** A number as `size` bytes, little-endian. */
export function littleEndian(number: bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) bytes[at] = Number(number >> BigInt(8 * at) & 255n);
  return bytes;
}

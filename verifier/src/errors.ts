/** A file, text or value that is not what it should be, with the place in it and the reason. */
export class VerificationError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "VerificationError";
  }
}

export function refuse(message: string): never {
  throw new VerificationError(message);
}

/** Refuses unless `holds`. The message says what was expected, what was found, and where. */
export function require(holds: boolean, message: () => string): asserts holds {
  if (!holds) refuse(message());
}

const SHOWN_MAX = 120;

/** The beginning of a text, without characters that would change how a terminal shows the rest. */
export function shown(text: string): string {
  const characters = Array.from(text.slice(0, 2 * SHOWN_MAX)).slice(0, SHOWN_MAX);
  return characters.map((c) => (/^[\p{L}\p{N}\x20-\x7e]$/u.test(c) ? c : "?")).join("");
}

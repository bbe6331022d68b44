import { type TrustedSet, parseJson } from "../src/index.ts";
import { typeNamed } from "../src/schema.ts";
import { fromJson } from "../src/values.ts";

/** The sets of a JSON text that is a list of them. */
export function trustedSets(text: Uint8Array): TrustedSet[] {
  const type = { kind: "list", of: typeNamed("TrustedSet") } as const;
  return fromJson(type, parseJson(text, "sets"), "exact", "sets") as unknown as TrustedSet[];
}

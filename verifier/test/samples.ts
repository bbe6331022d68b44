import { readFileSync } from "node:fs";

import { type TrustedSet, readGenesis } from "../src/index.ts";
import { trustedSets } from "./sets.ts";

interface Sample { trusted: number; file: string; verdict: string | null }

const text = readFileSync(new URL("../../test/samples.json", import.meta.url), "utf8");
// The file is ours: what has large numbers in it is text inside of it.
const read = JSON.parse(text) as { genesis: object; trusted: object[]; samples: Sample[] };

export const genesisText = JSON.stringify(read.genesis);
export const genesis: TrustedSet = readGenesis(new TextEncoder().encode(genesisText));
export const trusted = trustedSets(new TextEncoder().encode(JSON.stringify(read.trusted)));
export const samples = read.samples;

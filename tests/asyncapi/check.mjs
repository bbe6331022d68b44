// Validates an AsyncAPI document: node tests/asyncapi/check.mjs docs/asyncapi.yaml
import { readFile } from "node:fs/promises";
import { DiagnosticSeverity, Parser } from "@asyncapi/parser";

const [path] = process.argv.slice(2);
// The source is needed to find the types of the OpenAPI document, to which it refers.
const { document, diagnostics } = await new Parser().parse(await readFile(path, "utf8"), { source: path });
const errors = diagnostics.filter(({ severity }) => severity === DiagnosticSeverity.Error);
for (const { message, path: place, range } of errors) {
  console.error(`${path}:${range.start.line + 1}: ${message} (${place.join(".")})`);
}
if (!document || errors.length > 0) process.exit(1);
console.log(`AsyncAPI ${document.version()}`);
for (const channel of document.channels().all()) console.log(channel.address());

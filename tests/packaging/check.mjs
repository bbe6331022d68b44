// Prints what is wrong with a Dockerfile: `node check.mjs FILE`. Exit code 1 if there is something.
import { readFileSync } from "node:fs";
import { validate } from "dockerfile-utils";

const text = readFileSync(process.argv[2], "utf8");
const problems = validate(text);
for (const { range, message } of problems) {
    console.log(`${range.start.line + 1}: ${message}`);
}
process.exit(problems.length === 0 ? 0 : 1);

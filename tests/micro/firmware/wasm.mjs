// Runs the module of this crate: node wasm.mjs MODULE
import { readFileSync } from "node:fs";

const bytes = readFileSync(process.argv[2]);
const module = new WebAssembly.Module(bytes);
const imports = WebAssembly.Module.imports(module);
if (imports.length) throw new Error(`imports ${imports.map((i) => i.name)}: a panic path survived?`);
const seen = new WebAssembly.Instance(module).exports.compared();
const [equal, all, right] = [0n, 16n, 32n].map((shift) => (seen >> shift) & 0xffffn);
console.log(`equal ${equal} of ${all}, right ${right}, instructions 0, stack 0`);
process.exit(all > 0n && equal === all ? 0 : 1);

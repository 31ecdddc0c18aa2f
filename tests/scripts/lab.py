"""What the scripts that gather evidence share: a working folder, and the program on files inside it."""

import argparse
import json
import subprocess
from pathlib import Path


class Lab:
    """A folder in which what is there already is not made again; `args` has at least `work` and `niwaki`."""

    def __init__(self, args):
        self.args = args
        self.work = Path(args.work)
        self.work.mkdir(parents=True, exist_ok=True)

    def niwaki(self, *words):
        """What a verb answers as JSON."""
        done = subprocess.run([self.args.niwaki, *map(str, words), "--json"], capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise SystemExit(f"niwaki {' '.join(map(str, words))}: {answer['error']['message']}")
        return answer

    def file(self, name):
        return self.work / f"{name}.safetensors"

    def said(self, name, *words):
        """What a verb says that writes a file; of a file that is there already what it said then."""
        out, report = self.file(name), self.work / f"{name}.json"
        if not (out.exists() and report.exists()):
            out.unlink(missing_ok=True)
            report.write_text(json.dumps(self.niwaki(*words, "-o", out)))
        return json.loads(report.read_text())


def main(run, table, flags):
    """The verbs of a script of evidence: `run NET TRAIN TEST WORK OUT` with flags, which are defaults or what argparse takes by
    name, and `table OUT ...`."""
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run")
    for name in ("net", "train", "test", "work", "out"):
        runs.add_argument(name)
    for name, flag in {**flags, "niwaki": "target/release/niwaki"}.items():
        more = flag if isinstance(flag, dict) else {"default": flag, "type": type(flag)}
        runs.add_argument("--" + name, **more)
    tables = verbs.add_parser("table")
    tables.add_argument("found", nargs="+")
    args = parser.parse_args()
    if args.verb == "run":
        run(args)
    else:
        table(args.found)

"""Runs the fuzz targets under atheris, one after the other, and accounts for it; `make fuzz` sets it up.

    python tests/fuzz/fuzz_run.py [--seconds N] [TARGET ...]        fuzz; exit code 1 where there is a finding
    python tests/fuzz/fuzz_run.py --replay TARGET FILE ...          run inputs once, without atheris

An input that breaks a target is written to tests/fuzz/findings/TARGET/, from where every later test run replays it. The corpus lies in
.cache/fuzz/corpus/TARGET/ and grows from run to run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
CACHE: Final = ROOT / ".cache" / "fuzz"
FINDINGS: Final = HERE / "findings"
INPUT_SECONDS: Final = 20
"""An input that takes longer is a finding."""
MEMORY_MB: Final = 1024

sys.path[:0] = [str(HERE), str(HERE.parent / "support")]


@dataclass(frozen=True, slots=True)
class Account:
    """What came of one target: executions, those per second, edges and features covered, inputs in the corpus; findings."""

    target: str
    numbers: tuple[int, ...]
    findings: tuple[Path, ...]


def fuzz(name: str, seconds: int) -> Account:
    """Fuzz one target in a process of its own."""
    corpus, log = CACHE / "corpus" / name, CACHE / f"{name}.log"
    FINDINGS.joinpath(name).mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MB}"]
    flags += [f"-artifact_prefix={FINDINGS / name}{os.sep}", "-print_final_stats=1", str(corpus)]
    corpus.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        done = subprocess.run([sys.executable, __file__, "--child", name, *flags], stdout=out, stderr=out, check=False)
    text = log.read_text(encoding="utf-8", errors="replace")
    found = tuple(Path(line) for line in re.findall(r"Test unit written to (.+)", text))
    if done.returncode and not found:
        raise SystemExit(f"error: {name} ended with exit code {done.returncode} and no input; see {log}")
    if not any(FINDINGS.glob(f"{name}/*")):
        FINDINGS.joinpath(name).rmdir()
    said = (r"stat::number_of_executed_units:\s*(\d+)", r"stat::average_exec_per_sec:\s*(\d+)")
    numbers = [last(pattern, text) for pattern in (*said, r"cov: (\d+)", r"ft: (\d+)", r"corp: (\d+)")]
    return Account(name, tuple(numbers), found)


def last(pattern: str, text: str) -> int:
    """The last number of that kind in libFuzzer's words; 0 where it said none."""
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def child(name: str, flags: list[str]) -> None:
    """What runs in the process of one target: atheris, with the verifier instrumented."""
    import atheris

    with atheris.instrument_imports(include=["hillhold_verifier"]):
        import fuzz_targets
    target = fuzz_targets.TARGETS[name]
    corpus = Path(flags[-1])
    for seed in target.seeds():
        corpus.joinpath(sha256(seed).hexdigest()[:16]).write_bytes(seed)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if target.mutate and random.randrange(2):
            return target.mutate(data, random)[:max_size]
        changed: bytes = atheris.Mutate(data, max_size)
        return changed

    options = {"custom_mutator": mutate} if target.mutate else {}
    atheris.Setup([sys.argv[0], f"-max_len={target.max_length}", *flags], target.run, **options)
    atheris.Fuzz()


def table(accounts: list[Account]) -> str:
    rows = [["target", "executions", "per second", "edges", "features", "corpus", "findings"]]
    rows += [[a.target, *(f"{number:,}" for number in (*a.numbers, len(a.findings)))] for a in accounts]
    return "\n".join(
        "".join(f"{cell:<14}" if at == 0 else f"{cell:>12}" for at, cell in enumerate(row)) for row in rows
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the verifier.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--replay", metavar="TARGET", help="run files once")
    parser.add_argument("--child", metavar="TARGET", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="targets (default: all), or files to replay")
    options, flags = parser.parse_known_args()
    if options.child:
        child(options.child, [*flags, *options.names])
    import fuzz_targets

    if options.replay:
        for file in options.names:
            fuzz_targets.TARGETS[options.replay].run(Path(file).read_bytes())
            print(f"{file}: fine")
        return 0
    if unknown := set(options.names) - set(fuzz_targets.TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(fuzz_targets.TARGETS)}")
    accounts = []
    for name in options.names or fuzz_targets.TARGETS:
        print(f"{name}: {options.seconds} s", flush=True)
        accounts.append(fuzz(name, options.seconds))
    print(f"\n{table(accounts)}")
    for account in accounts:
        for path in account.findings:
            file = path.relative_to(ROOT)
            print(f"\nfinding: {file}\nreplay:  make fuzz-replay FUZZ_TARGET={account.target} INPUT={file}")
    return 1 if any(account.findings for account in accounts) else 0


if __name__ == "__main__":
    sys.exit(main())

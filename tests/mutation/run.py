"""Mutation testing of the rules of trust: `make mutation`, or this file with names of modules (`trust checks`).

A mutant is the verifier with one small fault (`mutants`). The tests that execute its line are run on it, until one fails; a mutant that
none of them notices has survived: either it changes nothing that matters, and `survivors.toml` says why, or a test is missing. The run
fails at a survivor that is not listed there, and at an entry that is not one any more.

All tests are collected once. Each mutant has a process of its own, forked from that one, in which the code of the function is replaced.
What is executed when a module is imported is tried in a process that imports it changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import NoReturn

import coverage
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from mutants import Mutant, mutants  # noqa: E402
from replacer import Replacer, caches, path_of  # noqa: E402

MODULES = (
    *("trust", "checks", "content", "header", "roles", "delegations", "keys"),
    *("keytypes.ecdsa", "keytypes.ed25519", "keytypes.mldsa", "keytypes.rsa", "keytypes.scheme"),
    *("select", "session", "client", "canonical", "fields", "metadata", "release", "context"),
    *("installer", "transfer", "state", "wire", "agent_image"),
    *("mcuboot", "mcuboot_keys"),
)
"""The trust rules, in the order of their importance."""
OWN = {"keytypes": "key", "checks": "listed", "fields": "metadata", "context": "installer", "agent_image": "agent"}
"""Whose tests are a module's own, where the names differ."""
AT_IMPORT = "keytypes."
"""Modules some of whose functions have done their work once they are imported, and the others of which are called once for each key:
any test of the module can tell, and a mutant that survives is tried once more, imported changed."""
TESTS = ("tests/verifier", "tests/attacks", "tests/differential", "tests/properties", "tests/vectors")
SURVIVORS = Path(__file__).with_name("survivors.toml")
CACHE = ROOT / ".cache/mutation"
SLOW = 4.0
"""Seconds: longer tests are left out."""
BUDGET = 5.0
"""Seconds of tests for one mutant, by how long they took without a fault."""
MEMORY = 4 << 30
"""Bytes that a mutant may take."""

_STDERR = os.dup(2)
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
UNKNOWN = "?"
"""In place of a test's name: no imported function has the code that the mutant changes, so that it has to be imported changed."""


@dataclass
class Tests:
    """What one run without a fault showed: how long each test takes, and which tests execute a line."""

    seconds: dict[str, float] = field(default_factory=dict)
    by_line: dict[str, dict[int, list[str]]] = field(default_factory=dict)

    @staticmethod
    def is_own(test: str, mutant: Mutant) -> bool:
        """The test file mirrors the module."""
        name = mutant.module.split(".")[0]
        return f"/test_{OWN.get(name, name)}" in test

    def of(self, mutant: Mutant, likely: Counter[str], budget: float) -> list[str]:
        """The tests that can tell, those first that killed its neighbours or belong to its module, and then the fastest."""
        lines = self.by_line.get(mutant.module, {})
        wanted = mutant.lines if _in_function(mutant) else lines
        found = {test for line in wanted for test in lines.get(line, ())}
        ordered = sorted(
            found, key=lambda test: (-likely[test], not self.is_own(test, mutant), self.seconds[test], test)
        )
        kept, total = [], 0.0
        for test in ordered:
            total += self.seconds[test]
            if total > budget:
                break
            kept.append(test)
        return kept


def say(text: str) -> None:
    """Tell on standard error, which pytest captures meanwhile, what is going on."""
    os.write(_STDERR, f"  {text}\n".encode())


def _in_function(mutant: Mutant) -> bool:
    """Only what calls the function can tell; not what has happened at import."""
    return mutant.inside and not mutant.module.startswith(AT_IMPORT)


# --- in the process of one mutant -------------------------------------------------------------------------------------


def run_tests(items: Sequence[pytest.Item], seconds: Mapping[str, float], verdict: int) -> None:
    """Run tests until one fails, whose name goes to the pipe `verdict`; that ends the process."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        signal.setitimer(signal.ITIMER_REAL, 10 + 10 * seconds[item.nodeid])  # its default act ends the process
        failed: list[str] = []
        item.config.pluginmanager.register(_Reports(failed), "verdict")
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        item.config.pluginmanager.unregister(name="verdict")
        if failed:
            ended(verdict, item.nodeid)
    signal.setitimer(signal.ITIMER_REAL, 0)  # what comes next, such as to import other tests, is not this test's time


def ended(verdict: int, killer: str) -> NoReturn:
    """End the process of a mutant that was killed."""
    os.write(verdict, killer[:200].encode())
    os._exit(0)


@dataclass
class _Reports:
    failed: list[str]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


class _Import(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module changed."""

    def __init__(self, module: str, code: CodeType) -> None:
        self.name, self.code, self.path = f"hillhold_verifier.{module}", code, path_of(module)

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)


@dataclass
class _Loop:
    """Takes the place of pytest's own loop, once the tests are collected."""

    act: Callable[[pytest.Session], None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.act(session)
        return True

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if "test_conformance" not in item.nodeid]


def collect(paths: Sequence[str], act: Callable[[pytest.Session], None]) -> int:
    """Collect tests and give them to `act`."""
    arguments = ["-s", "--assert=plain", "--tb=line", "-p", "no:cacheprovider", "-p", "no:logging", *paths]
    return int(pytest.main(arguments, plugins=[_Loop(act)]))


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass
class Runner:
    """Tries mutants, `jobs` at a time; results by mutant, with the test that killed it."""

    tests: Tests
    jobs: int
    budget: float
    results: dict[int, tuple[str, str]] = field(default_factory=dict)
    _running: dict[int, tuple[int, Mutant, int]] = field(default_factory=dict)
    _likely: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def run(
        self, chosen: Sequence[tuple[int, Mutant]], start: Callable[[Mutant, list[str], int], None], what: str
    ) -> None:
        """Try the chosen mutants; `start` is called in each one's process with the tests to run and the pipe for the verdict."""
        for done, (number, mutant) in enumerate(chosen):
            wanted = self.tests.of(mutant, self._likely[self._near(mutant)], self.budget)
            if not wanted:
                self.results[number] = SURVIVED, "no test comes here"
                continue
            while len(self._running) >= self.jobs:
                self._wait()
            reader, writer = os.pipe()
            if (pid := os.fork()) == 0:
                os.close(reader)
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                silence = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silence, 1)
                os.dup2(silence, 2)
                try:
                    start(mutant, wanted, writer)
                except BaseException as error:  # the fault shows at once
                    ended(writer, f"import: {error}")
                os._exit(0)
            os.close(writer)
            self._running[pid] = number, mutant, reader
            if done % 100 == 0:
                say(f"{what}: {done} of {len(chosen)}")
        while self._running:
            self._wait()

    @staticmethod
    def _near(mutant: Mutant) -> str:
        return f"{mutant.module} {mutant.name.split(':')[0]}"

    def _wait(self) -> None:
        pid, status = os.wait()
        number, mutant, reader = self._running.pop(pid)
        with os.fdopen(reader, "rb") as pipe:
            killer = pipe.read().decode()
        if os.WIFSIGNALED(status):
            self.results[number] = TIMED_OUT, signal.Signals(os.WTERMSIG(status)).name
        elif killer:
            self.results[number] = KILLED, killer
            self._likely[self._near(mutant)][killer] += 1
        else:
            self.results[number] = SURVIVED, ""


def in_process(act: Callable[[], object]) -> object:
    """Do something in a process of its own, and return what it returned, which is JSON."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            json.dump(act(), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found: object = json.loads(pipe.read() or "null")
    os.waitpid(pid, 0)
    return found


# --- the run without a fault ------------------------------------------------------------------------------------------


def measure(session: pytest.Session, modules: Sequence[str]) -> dict[str, object]:
    """Run each test under coverage; tests that fail or are slow count for nothing."""
    files = {module: str(path_of(module)) for module in modules}
    cov = coverage.Coverage(data_file=None, include=list(files.values()), config_file=False)
    seconds: dict[str, float] = {}
    failed: list[str] = []
    session.config.pluginmanager.register(_Reports(failed))
    remembering = caches()
    cov.start()
    for item, following in zip(session.items, [*session.items[1:], None], strict=True):
        cov.switch_context(item.nodeid)
        for cache in remembering:  # or only the first test that needs a value would be seen to execute what makes it
            cache.cache_clear()
        began = time.perf_counter()
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        seconds[item.nodeid] = time.perf_counter() - began
    cov.stop()
    for test in failed:
        say(f"fails without a fault, and is left out: {test}")
    good = {test: at for at, test in enumerate(seconds) if seconds[test] < SLOW and test not in failed}
    data, by_line = cov.get_data(), {}
    for module, name in files.items():
        lines = data.contexts_by_lineno(name)
        by_line[module] = {line: [good[test] for test in tests if test in good] for line, tests in lines.items()}
    return {"seconds": seconds, "by_line": by_line}


def fingerprint(paths: Sequence[str]) -> str:
    """What the run without a fault depends on."""
    files = sorted([*(path for name in TESTS for path in (ROOT / name).rglob("*.py")), *ROOT.glob("*/src/**/*.py")])
    return sha256(
        repr([paths, MODULES, *((str(path.relative_to(ROOT)), path.read_bytes()) for path in files)]).encode()
    ).hexdigest()[:16]


def tests_of(found: object) -> Tests:
    assert isinstance(found, dict), "the run without a fault did not end"
    names = list(found["seconds"])
    by_line = {
        module: {int(line): [names[at] for at in tests] for line, tests in lines.items()}
        for module, lines in found["by_line"].items()
    }
    return Tests(found["seconds"], by_line)


# --- mutants ----------------------------------------------------------------------------------------------------------


def warm(
    chosen: Sequence[tuple[int, Mutant]],
    trees: Mapping[str, ast.Module],
    paths: Sequence[str],
    jobs: int,
    budget: float,
) -> object:
    """Measure, and try the mutants within functions."""
    result: dict[str, object] = {}

    def act(session: pytest.Session) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        saved = CACHE / f"tests-{fingerprint(paths)}.json"
        if not saved.exists():
            saved.write_text(json.dumps(in_process(lambda: measure(session, MODULES))))
        found = json.loads(saved.read_text())
        tests = tests_of(found)
        items = {item.nodeid: item for item in session.items}
        replacer = Replacer()
        gc.collect()
        gc.freeze()  # or each process would copy what the collector only looks at

        def start(mutant: Mutant, wanted: list[str], verdict: int) -> None:
            if not replacer.replace(mutant, trees[mutant.module]):
                ended(verdict, UNKNOWN)
            run_tests([items[test] for test in wanted], tests.seconds, verdict)

        runner = Runner(tests, jobs, budget)
        runner.run(chosen, start, "within functions")
        result.update(tests=found, results=runner.results)

    with Path(os.devnull).open("w") as silence, contextlib.redirect_stdout(silence):
        collect(paths, act)
    return result


def cold(
    chosen: Sequence[tuple[int, Mutant]], trees: Mapping[str, ast.Module], tests: Tests, jobs: int, budget: float
) -> dict[int, tuple[str, str]]:
    """Try mutants of what runs at import."""

    def start(mutant: Mutant, wanted: list[str], verdict: int) -> None:
        code = mutant.compile(trees[mutant.module], str(path_of(mutant.module)))
        sys.meta_path.insert(0, _Import(mutant.module, code))
        # The module's own tests first: to import all the others takes longer than to run them.
        own = [test for test in wanted if tests.is_own(test, mutant)]
        for batch in (own, [test for test in wanted if test not in own]):
            if batch:
                collect(sorted({test.split("::")[0] for test in batch}), partial(act, batch=batch, verdict=verdict))

    def act(session: pytest.Session, batch: list[str], verdict: int) -> None:
        items = {item.nodeid: item for item in session.items}
        if not items.keys() >= set(batch):
            ended(verdict, "import: a test module fails")
        run_tests([items[test] for test in batch], tests.seconds, verdict)

    runner = Runner(tests, jobs, budget)
    runner.run(chosen, start, "at import")
    return runner.results


# --- the report -------------------------------------------------------------------------------------------------------


def accepted() -> dict[tuple[str, str], str]:
    """The survivors that weaken nothing: by module and name, the kind of reason."""
    entries = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["accepted"] if SURVIVORS.exists() else []
    return {(entry["module"], name): entry["kind"] for entry in entries for name in entry["mutants"]}


def report(everything: list[Mutant], results: Mapping[int, tuple[str, str]], modules: Sequence[str]) -> int:
    """Print figures by module, and what is wrong; return the exit code."""
    listed = accepted()
    alive: list[Mutant] = []
    print(f"{'module':18} {'mutants':>8} {'killed':>8} {'timed out':>10} {'survived':>9} {'accepted':>9}")
    total: Counter[str] = Counter()
    for module in modules:
        count = Counter(
            results[number][0]
            for number, mutant in enumerate(everything)
            if mutant.module == module and number in results
        )
        mine = [
            mutant
            for number, mutant in enumerate(everything)
            if mutant.module == module and results.get(number, ("",))[0] == SURVIVED
        ]
        alive += mine
        known = sum((module, mutant.name) in listed for mutant in mine)
        _row(module, count, known)
        total += count
    known = sum((mutant.module, mutant.name) in listed for mutant in alive)
    _row("all", total, known)
    survived = {(mutant.module, mutant.name): mutant for mutant in alive}
    for key, mutant in survived.items():
        if key not in listed:
            print(f"survivor: {mutant.module}:{mutant.lines.start} {mutant.name}")
    tried = {(everything[number].module, everything[number].name) for number in results}
    stale = [
        key
        for key in listed
        if key[0] in modules and key not in survived and (key in tried or len(tried) == len(everything))
    ]
    for module, name in stale:
        print(f"listed in {SURVIVORS.name}, and no survivor: {module} {name}")
    return 1 if stale or survived.keys() - listed.keys() else 0


def _row(module: str, count: Counter[str], known: int) -> None:
    print(f"{module:18} {sum(count.values()):8} {count[KILLED]:8} {count[TIMED_OUT]:10} {count[SURVIVED]:9} {known:9}")


def imports(mutant: Mutant, result: tuple[str, str]) -> bool:
    """Whether to import the mutant changed, after what came of replacing its code."""
    verdict, by = result
    return by == UNKNOWN or (verdict == SURVIVED and mutant.module.startswith(AT_IMPORT))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Mutation testing of the rules of trust.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="modules of the verifier; all trust rules without")
    parser.add_argument("--tests", nargs="+", default=TESTS, metavar="PATH", help="tests to run")
    parser.add_argument("--again", action="store_true", help="only what survived the last time")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of tests for one mutant")
    options = parser.parse_args()
    os.chdir(ROOT)
    modules = options.modules or MODULES
    trees = {module: ast.parse(path_of(module).read_text(encoding="utf-8")) for module in modules}
    everything = [mutant for module in modules for mutant in mutants(trees[module], module)]
    last = CACHE / "last.json"
    wanted = set(map(tuple, json.loads(last.read_text()))) if options.again else None
    chosen = [
        (number, mutant)
        for number, mutant in enumerate(everything)
        if wanted is None or (mutant.module, mutant.name) in wanted
    ]
    found = in_process(
        lambda: warm([one for one in chosen if one[1].inside], trees, options.tests, options.jobs, options.budget)
    )
    assert isinstance(found, dict), "the tests were not run"
    results = {int(number): (verdict, by) for number, (verdict, by) in found["results"].items()}
    outside = [one for one in chosen if not one[1].inside or imports(one[1], results[one[0]])]
    results.update(cold(outside, trees, tests_of(found["tests"]), options.jobs, options.budget))
    CACHE.mkdir(parents=True, exist_ok=True)
    survivors = [(m.module, m.name) for n, m in enumerate(everything) if n in results and results[n][0] == SURVIVED]
    last.write_text(json.dumps(survivors))
    details = [[m.module, m.lines.start, m.name, *results[n]] for n, m in enumerate(everything) if n in results]
    (CACHE / "details.json").write_text(json.dumps(details, indent=0))
    return report(everything, results, modules)


if __name__ == "__main__":
    sys.exit(main())

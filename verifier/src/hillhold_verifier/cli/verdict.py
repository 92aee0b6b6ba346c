"""An audit's report in words, for people, and as values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from hillhold_verifier.audit import Finding, Level, LineReport, Report
from hillhold_verifier.audit.report import Quorum, RoleReport, TargetReport
from hillhold_verifier.release import Patch, Release, Version
from hillhold_verifier.times import show_span, show_time

_WORDS = {Level.GOOD: "good", Level.WARNING: "warning", Level.UNREAD: "unread", Level.REFUSED: "refused"}
_VERDICTS = {Level.GOOD: "good", Level.WARNING: "good", Level.UNREAD: "none", Level.REFUSED: "refused"}


# --- for people -------------------------------------------------------------------------------------------------------


def report_lines(report: Report) -> list[str]:
    """Return the whole report, its verdict last."""
    return [
        f"judged at {show_time(report.now)}, trusting the given root {report.roots[0].version}",
        *(line for number, role in enumerate(report.roots) for line in _role(role, report.now, given=number == 0)),
        *_role(report.timestamp, report.now),
        *([_row("issued", show_time(report.issued))] if report.issued else []),
        *_role(report.snapshot, report.now),
        *_role(report.targets, report.now),
        *(text for line in report.lines for text in _line(line, report)),
        "",
        *_verdict(report),
    ]


def _row(name: str, text: str, indent: int = 2) -> str:
    return f"{' ' * indent}{name:{13 - indent}} {text}"


def _role(role: RoleReport, now: int, *, given: bool = False) -> Iterator[str]:
    title = f"{role.role} {role.version or ''}".rstrip() + (" (given)" if given else "")
    yield from ("", title)
    if role.version is None and not role.findings:
        yield _row("not judged", "what lists it could not be read")
    if given and role.sha256:
        yield _row("sha256", role.sha256.hex())
    yield from _file(role, now)
    yield from _findings(role.findings)


def _file(role: RoleReport, now: int) -> Iterator[str]:
    if role.listed and role.sha256 is not None:
        same = role.listed.version == role.version and role.listed.hashes.get("sha256") == role.sha256
        yield _row("listed", f"version {role.listed.version}, " + ("this file" if same else "another file than this"))
    if role.expires is not None:
        left = f"{show_span(role.expires - now)} left" if role.expires > now else f"{show_span(now - role.expires)} ago"
        yield _row("expires", f"{show_time(role.expires)}, {left}")
    for quorum in role.quorums:
        yield from _quorum(quorum)
    for change in role.changes:
        yield _row("changed", change)


def _quorum(quorum: Quorum) -> Iterator[str]:
    yield _row(
        "signed", f"by {quorum.valid} of {quorum.keys} keys, {quorum.threshold} needed, under {quorum.delegator}"
    )
    for signature in quorum.signatures:
        kind = f"{signature.scheme}, " if signature.scheme else ""
        yield _row("", f"key {signature.keyid[:16]}: {kind}{signature.state}")


def _findings(findings: tuple[Finding, ...], indent: int = 2) -> Iterator[str]:
    for finding in findings:
        yield f"{' ' * indent}{_WORDS[finding.level]}: {finding.message}"


def _line(line: LineReport, report: Report) -> Iterator[str]:
    version = line.role.version if line.role else None
    yield from ("", f"product line {line.product} {version or ''}".rstrip())
    if line.state == "not judged" and not line.findings:
        yield _row("not judged", "snapshot or targets could not be read")
    if line.role:
        yield from _file(line.role, report.now)
    if line.delegation:
        caps = line.delegation
        yield _row("hardware", ", ".join(sorted(caps.hardware)) or "none")
        yield _row("counter", f"at most {caps.max_security_counter}")
        if line.offline_grace or caps.max_offline_grace:
            grace = f"{show_span(line.offline_grace)}, at most {show_span(caps.max_offline_grace)}"
            yield _row("grace", grace)
    yield from _findings((*line.findings, *(line.role.findings if line.role else ())))
    for target in line.targets:
        yield from _target(target)


def _target(target: TargetReport) -> Iterator[str]:
    kind = {Release: "release", Patch: "patch"}.get(type(target.says), "target")
    yield f"  {kind} {target.path}"
    if isinstance(target.says, Release):
        yield from _release(target.says)
    elif isinstance(target.says, Patch):
        base = target.base_path or f"a file that is not listed ({target.says.base.hex()[:16]}…)"
        yield _row("from", f"{base}, {target.says.algorithm}", 4)
        exact = {True: "exactly", False: "something else than", None: "not tried:"}[target.makes_exactly]
        yield _row("makes", f"{exact} {target.says.makes}", 4)
    yield _row("file", f"{target.length} bytes, {target.file}", 4)
    if target.image:
        yield _row("image", f"{target.image} with its release", 4)
    yield from _findings(target.findings, 4)


def _release(release: Release) -> Iterator[str]:
    yield _row("for", f"{', '.join(sorted(release.hardware))}; component {release.component}", 4)
    yield _row("is", f"{release.kind}, {release.format}, security counter {release.security_counter}", 4)
    if release.withdrawn is not None:
        yield _row("withdrawn", release.withdrawn, 4)
    if release.downgrade_from:
        yield _row("steps down", f"from {', '.join(map(str, sorted(release.downgrade_from)))}", 4)
    for name, least in sorted(release.requires.items()):
        yield _row("requires", f"{name} {least}", 4)
    if release.set:
        yield _row("set", release.set, 4)
    if release.crit:
        yield _row("must know", ", ".join(sorted(release.crit)), 4)


def _verdict(report: Report) -> list[str]:
    against = [finding for finding in report.findings if finding.level > Level.WARNING]
    if against:
        words = "refused" if report.verdict is Level.REFUSED else "none, the source could not be read"
        head = f"verdict: {words} — {_many(len(against), 'reason')}"
        return [head, *(f"  {finding.where}: {finding.message}" for finding in against)]
    warned = [finding for finding in report.findings if finding.level is Level.WARNING]
    noted = f", with {_many(len(warned), 'warning')}" if warned else ""
    head = f"verdict: good{noted} — {_counts(report)}"
    return [*(f"warning: {finding.where}: {finding.message}" for finding in warned), head]


def _counts(report: Report) -> str:
    counts = summary(report)
    parts = [
        _many(counts["roles"], "role"),
        _many(counts["lines"], "product line"),
        _many(counts["releases"], "release"),
        _many(counts["patches"], "patch", "patches"),
    ]
    return ", ".join(parts) + (
        f", {_many(counts['files'], 'file')}, all as signed" if report.files else "; files not looked at"
    )


def _many(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


# --- for machines -----------------------------------------------------------------------------------------------------


def summary(report: Report) -> dict[str, int]:
    """Return how much was judged."""
    targets = [target for line in report.lines for target in line.targets]
    return {
        "roles": 4,
        "lines": sum(line.state == "line" for line in report.lines),
        "releases": sum(isinstance(target.says, Release) for target in targets),
        "patches": sum(isinstance(target.says, Patch) for target in targets),
        "files": sum(target.file == "as signed" for target in targets),
    }


def report_values(report: Report) -> dict[str, object]:
    """Return the report as `docs/FORMAT.md`, "Verdicts", has it."""
    lines = [{**_object(line), "good": report.is_good(line)} for line in report.lines]
    findings = [_object(finding) for finding in report.findings]
    return {
        "verdict": _VERDICTS[report.verdict],
        "findings": findings,
        "counts": summary(report),
        **_object(report),
        "lines": lines,
    }


def _object(value: object) -> dict[str, object]:
    return {field.name: _value(getattr(value, field.name)) for field in fields(value)} if is_dataclass(value) else {}


def _value(value: object) -> object:
    if isinstance(value, Level):
        return _WORDS[value]
    if isinstance(value, Version):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {name: _value(item) for name, item in value.items()}
    if isinstance(value, frozenset):
        return [_value(item) for item in sorted(value)]
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return _object(value) if is_dataclass(value) else value

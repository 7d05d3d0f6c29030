"""Looks all dependencies up in the advisory databases, and checks licences and sources of the Rust crates.

    python .ci/audit.py BIN        BIN: the folder of pip-audit and cargo-deny

what                        with                       against
Rust: licences, sources     cargo-deny                 deny.toml; Cargo.lock alone
Rust: advisories            cargo-deny                 RustSec, from github.com
Python: advisories          pip-audit                  PyPI, else api.osv.dev
npm: advisories             npm audit                  registry.npmjs.org
Go: advisories              this file                  golang.org/x/vulndb, a module of the Go proxy

Behind a mirror some of these can't be reached; each such one is named, and is no finding. Ends with 1 when something was found,
with 3 when no advisory database was reached at all. Go's own govulncheck was not taken: it reads vuln.go.dev, which mirrors of
modules don't have, while they have the data as a module. Go's standard library is the caller's, and is not looked up.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS = 600
VULNDB = "golang.org/x/vulndb"


@dataclass
class Outcome:
    """What one check came to. `unreached`: why its database wasn't looked at; "" if it was."""

    name: str
    findings: list[str] = field(default_factory=list)
    unreached: str = ""
    counted: int = 0
    """Dependencies that were looked up; 0 where the tool doesn't say."""


def run(command: Sequence[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A tool's run, whatever it ends with."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS)


def check_crates(tools: Path) -> list[Outcome]:
    """Rust. The advisories apart, so that the rest doesn't fall with the network."""
    environment_path = f"{tools.resolve()}:{os.environ['PATH']}"
    deny = shutil.which("cargo-deny", path=environment_path)
    if deny is None:
        return [Outcome("Rust", unreached="cargo-deny is not installed")]
    policy = Outcome("Rust: licences, bans, sources")
    done = run([deny, "--log-level", "error", "check", "licenses", "bans", "sources"])
    if done.returncode:
        policy.findings.append((done.stdout + done.stderr).strip())
    advisories = Outcome("Rust: advisories")
    done = run([deny, "--log-level", "error", "check", "advisories"])
    if done.returncode and "error[" in done.stderr + done.stdout:
        advisories.findings.append((done.stdout + done.stderr).strip())
    elif done.returncode:
        advisories.unreached = last_line(done.stderr)
    return [policy, advisories]


def check_python(tools: Path) -> Outcome:
    """What constraints.txt pins."""
    outcome = Outcome("Python: advisories")
    command = [
        str(tools / "pip-audit"),
        "--requirement",
        "constraints.txt",
        "--disable-pip",
        "--no-deps",
        "--format",
        "json",
    ]
    for service in ("pypi", "osv"):
        done = run([*command, "--vulnerability-service", service])
        try:
            found = json.loads(done.stdout)["dependencies"]
        except ValueError:
            outcome.unreached = f"{service}: {last_line(done.stderr)}"
            continue
        read_pip_audit(found, outcome)
        if outcome.counted:
            return outcome
    return outcome


def read_pip_audit(dependencies: Iterable[Mapping[str, Any]], outcome: Outcome) -> None:
    """What pip-audit says of each dependency. One that it doesn't find was not looked up."""
    skipped = []
    for dependency in dependencies:
        if "skip_reason" in dependency:
            skipped.append(dependency["name"])
            continue
        outcome.counted += 1
        name = f"{dependency['name']} {dependency['version']}"
        outcome.findings += [f"{name}: {one['id']}" for one in dependency.get("vulns", ())]
    outcome.unreached = f"{len(skipped)} packages, from {skipped[0]} on, are not in the database" if skipped else ""


def check_npm() -> Outcome:
    """What the TypeScript client's lock file pins."""
    outcome = Outcome("npm: advisories")
    if shutil.which("npm") is None:
        outcome.unreached = "npm is not installed"
        return outcome
    done = run(["npm", "audit", "--json"], ROOT / "clients" / "typescript")
    report = json.loads(done.stdout or "{}")
    if "vulnerabilities" not in report:
        outcome.unreached = report.get("message") or last_line(done.stderr)
        return outcome
    outcome.counted = report["metadata"]["dependencies"]["total"]
    outcome.findings = [f"{name}: {one['severity']}" for name, one in report["vulnerabilities"].items()]
    return outcome


def check_go() -> Outcome:
    """The modules that the Go client is built from, in the database as the module proxy has it."""
    outcome = Outcome("Go: advisories")
    if shutil.which("go") is None:
        outcome.unreached = "go is not installed"
        return outcome
    folder = ROOT / "clients" / "go"
    done = run(["go", "mod", "download", "-json", f"{VULNDB}@latest"], folder)
    if done.returncode:
        outcome.unreached = last_line(done.stderr)
        return outcome
    module = json.loads(done.stdout)
    outcome.name += f" ({module['Version']})"
    form = "{{.ImportPath}} {{with .Module}}{{.Path}} {{.Version}}{{end}}"
    lines = [line.split() for line in run(["go", "list", "-deps", "-f", form, "./..."], folder).stdout.splitlines()]
    built = {module: version for _, module, version in (line for line in lines if len(line) == 3)}
    packages = {line[0] for line in lines}
    advisories = [json.loads(path.read_text("utf-8")) for path in Path(module["Dir"], "data", "osv").glob("*.json")]
    outcome.findings = find_go(advisories, built, packages)
    outcome.counted = len(built)
    return outcome


def find_go(advisories: Iterable[Mapping[str, Any]], built: Mapping[str, str], packages: Collection[str]) -> list[str]:
    """Advisories, in OSV's form, for these modules at these versions, as far as a package at fault is among those built."""
    return sorted(
        f"{name} {built[name]}: {advisory['id']}"
        for advisory in advisories
        if "withdrawn" not in advisory
        for affected in advisory.get("affected", ())
        if (name := affected["package"]["name"]) in built
        and is_affected(built[name], affected.get("ranges", ()))
        and is_built(affected, packages)
    )


def is_built(affected: Mapping[str, Any], packages: Collection[str]) -> bool:
    """Whether one of the packages that an advisory names is built; it may name none, which stands for all."""
    named = [one["path"] for one in affected.get("ecosystem_specific", {}).get("imports", ())]
    return not named or any(path in packages for path in named)


def is_affected(version: str, ranges: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a version lies in one of OSV's ranges: after an `introduced`, before its `fixed`."""
    at = order_of(version)
    for one in ranges:
        is_in = False
        for event in one["events"]:
            if "introduced" in event and at >= order_of(event["introduced"]):
                is_in = True
            elif "fixed" in event and at >= order_of(event["fixed"]):
                is_in = False
        if is_in:
            return True
    return False


def order_of(version: str) -> tuple[tuple[int, ...], int, list[tuple[int, int, str]]]:
    """A semantic version as something to compare: a pre-release comes before its release."""
    core, _, before = version.removeprefix("v").partition("+")[0].partition("-")
    numbers = tuple(int(part) for part in re.findall(r"\d+", core))
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in before.split(".") if part]
    return (*numbers, 0, 0, 0)[:3], not before, parts


def last_line(text: str) -> str:
    """What a tool said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def main(tools: Path) -> int:
    """Run all checks and say what they came to. Returns the exit code."""
    outcomes = [*check_crates(tools), check_python(tools), check_npm(), check_go()]
    for outcome in outcomes:
        counted = f", {outcome.counted} looked up" if outcome.counted else ""
        if outcome.unreached:
            print(f"NOT REACHED  {outcome.name}{counted}: {outcome.unreached}")
        if outcome.findings:
            print(f"FOUND        {outcome.name}{counted}", *outcome.findings, sep="\n    ")
        elif not outcome.unreached:
            print(f"ok           {outcome.name}{counted}")
    if any(outcome.findings for outcome in outcomes):
        return 1
    databases = [outcome for outcome in outcomes if outcome.name.partition(": ")[2].startswith("advisories")]
    return 0 if any(outcome.counted or not outcome.unreached for outcome in databases) else 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""statement.json of a bundle: an in-toto Statement v1 whose subject is the manifest. Pure.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. A signature is over the bytes of this file.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from harness.base.errors import EvidenceError, ExitStatus, UsageError
from harness.base.strict import StrictModel
from harness.base.text import inert
from harness.judge.judgement import Conclusion
from harness.report.begun import Begun
from harness.report.bundle.bag import MANIFEST_NAME, STATEMENT_NAME
from harness.report.bundle.fidelity import Fidelity
from harness.report.results import RunResult

TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:maskall:evidence:v1"
NAMESPACE: Final = "maskall-evidence@v1"


class Tool(StrictModel):
    """A maskall: its version, the SHA-256 of its own files, and that of each file of rules."""

    version: str
    sha256: str
    rules: dict[str, str]


class Run(StrictModel):
    id: str
    tool_version: str
    started: AwareDatetime
    ended: AwareDatetime
    under_test: str
    control: str | None
    scenarios: int
    tests: int = Field(default=0, description="that somebody wrote with the fixtures")
    own_known_issues: str | None = Field(description="SHA-256 of a known_issues.yaml of the user's own")


class Evidence(StrictModel):
    """The predicate: what the payload says, in short, and what no file of it says: the tool, the challenge."""

    run: Run
    bundled_by: Tool
    challenge: str | None
    redacted: bool = Field(default=False, description="names and addresses are pseudonyms")
    host: str
    nested: bool
    product: dict[str, str] = Field(description="facts of the host, accepted refusals among them")
    packages: dict[str, str]
    devices: tuple[str, ...]
    fidelity: Fidelity
    counts: dict[Conclusion, int]
    thrown_away: int = Field(description="tries that the emulator spoiled")
    exit_status: ExitStatus

    @classmethod
    def of(
        cls,
        begun: Begun,
        results: RunResult,
        fidelity: Fidelity,
        tool: Tool,
        challenge: str | None,
        *,
        redacted: bool = False,
    ) -> Evidence:
        return cls(
            run=Run(
                id=results.run_id,
                tool_version=results.tool_version,
                started=results.started,
                ended=results.ended,
                under_test=begun.under_test,
                control=begun.control,
                scenarios=len(begun.scenarios),
                tests=len(results.cases),
                own_known_issues=begun.known_issues,
            ),
            bundled_by=tool,
            challenge=challenge,
            redacted=redacted,
            host=results.host.name,
            nested=results.host.nested,
            product=results.host.facts,
            packages=results.host.packages,
            devices=tuple(sorted(_devices(results))),
            fidelity=fidelity,
            counts=results.counts,
            thrown_away=results.emulator_faults,
            exit_status=results.exit_status,
        )


def _devices(results: RunResult) -> set[str]:
    of_tests = {one.replace(" at ", " ") for case in results.cases for one in case.devices}
    return of_tests | {f"{one.device_kind} {one.device}" for one in results.scenarios}


class Subject(StrictModel):
    name: Literal["manifest-sha256.txt"]
    digest: dict[Literal["sha256"], str]


class Statement(StrictModel):
    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[Subject]
    predicate_type: Literal["urn:maskall:evidence:v1"] = Field(alias="predicateType")
    predicate: Evidence

    @classmethod
    def of(cls, manifest_sha256: str, predicate: Evidence) -> Statement:
        subject = Subject(name=MANIFEST_NAME, digest={"sha256": manifest_sha256})
        return cls(_type=TYPE, subject=(subject,), predicateType=PREDICATE, predicate=predicate)

    @property
    def content(self) -> bytes:
        """The file, byte for byte."""
        return self.model_dump_json(indent=1, by_alias=True).encode() + b"\n"


class _StatementVersion(StrictModel):
    model_config = ConfigDict(extra="ignore")

    predicate_type: str = Field(alias="predicateType")


def parse_statement(content: bytes) -> Statement:
    """UsageError for another version, EvidenceError for what is not written as `Statement.content` writes it."""
    try:
        version = _StatementVersion.model_validate_json(content).predicate_type
        if version != PREDICATE:
            raise UsageError(
                f"{STATEMENT_NAME}: {inert(version)}, and this maskall reads {PREDICATE} only",
                hint="verify it with the maskall that wrote it",
            )
        statement = Statement.model_validate_json(content)
        same = statement.content == content
    except (ValidationError, ValueError) as error:
        told = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise EvidenceError(f"{STATEMENT_NAME}: {inert(told)}", hint="it is not what maskall writes") from error
    if not same:
        raise EvidenceError(f"{STATEMENT_NAME} is not written as maskall writes it")
    return statement

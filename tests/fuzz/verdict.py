"""Verdict on a case: accepted, refused in one sentence, or a fault."""

import hashlib
import re
import sys
import traceback
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hypothesis.strategies import SearchStrategy

import gmmrec
from gmmrec.cli.failure import described
from gmmrec.cli.main import main
from gmmrec.errors import UsageError
from tests.fuzz.case import Case
from tests.fuzz.guard import SECONDS, Outside, TooSlow, confined, emptied

LONGEST = 2000
"""Characters of the longest sentence that anybody reads."""
Kind = Literal["accepted", "refused", "fault"]

PACKAGE = f"{Path(gmmrec.__file__).parent}/"
"""Folder of the package; the checkout may have the same name."""


class Fault(AssertionError):
    """A result that contradicts itself or its input, or a refusal that is no sentence."""


class Refused(Exception):
    """A command refused its input, with a sentence."""


@dataclass(frozen=True)
class Target:
    """A part of gmmrec under fuzzing.

    Attributes:
        name: Name in the summary.
        cases: Strategy of its cases.
        call: Function that makes the call in the folder of the case and checks the result; raises what gmmrec raises.
        weight: Share of the cases, relative to the other targets.
        writable: Folders that the call may write, below that of the case.
        prepare: Function that makes what all cases share, before the first one.
    """

    name: str
    cases: SearchStrategy[Case]
    call: Callable[[Case, Path], None]
    weight: int = 1
    writable: tuple[str, ...] = ()
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Verdict:
    """Outcome of a case; a fault has a cause, equal for equal functions of gmmrec, and a text with the traceback."""

    kind: Kind
    cause: str = ""
    text: str = ""


def try_case(target: Target, case: Case, root: Path, seconds: float = SECONDS) -> Verdict:
    """Run a case below ``root`` and return the verdict."""
    try:
        with emptied(root) as folder:
            case.lay_out(folder)
            with confined(folder, target.writable, seconds):
                try:
                    target.call(case, folder)
                except UsageError as error:
                    check_sentence(str(error))
                    return Verdict("refused", text=str(error))
                except Refused as error:
                    return Verdict("refused", text=str(error))
                except Fault:
                    raise
                except Exception as error:
                    if (sentence := described(error)) is not None:  # of the system, or of memory
                        check_sentence(sentence)
                        return Verdict("refused", text=sentence)
                    raise
        return Verdict("accepted")
    except (Exception, TooSlow, Outside) as error:  # noqa: BLE001 (likewise)
        return Verdict("fault", cause_of(error), "".join(traceback.format_exception(error)))


def cause_of(error: BaseException) -> str:
    """Return the type of an exception and the innermost function of gmmrec, or the message of a :class:`Fault`."""
    kind = type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    position = "" if not frames else f" in {frames[-1].filename.removeprefix(PACKAGE)}:{frames[-1].name}"
    if isinstance(error, Fault):
        return f"{kind}: {error.args[0]}"
    return kind + position


def key_of(cause: str) -> str:
    """Return a name for files from a cause."""
    plain = re.sub(r"[^a-z0-9]+", "-", cause.lower()).strip("-")[:60]
    return f"{plain}-{hashlib.sha256(cause.encode('utf-8', 'replace')).hexdigest()[:6]}"


def check_sentence(text: str) -> None:
    """Check that a refusal is one printable line.

    Raises:
        Fault: It is empty, endless, or has line breaks or control characters.
    """
    if not text.strip():
        raise Fault("an empty refusal")
    if len(text) > LONGEST:
        raise Fault("an endless refusal", len(text), text[:200])
    odd = next((sign for sign in text if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs")), None)
    if odd is not None:
        raise Fault("a control character in a refusal", odd, text[:300])


def command(arguments: list[str]) -> str:
    """Run ``gmmrec`` in this process, with output to a buffer, and return what it prints.

    Raises:
        Refused: It exits with 2 and one sentence.
        Fault: It exits with 2 without a sentence.
        Exception: The fault of gmmrec that it reports.
    """
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        stream.seek(0)
        stream.truncate()
    try:
        code = main(arguments)
    except SystemExit as error:  # of the parser
        code = error.code
    printed, errors = out.getvalue(), err.getvalue()
    if code in (0, None):
        return printed
    lines = errors.rstrip("\n").split("\n")
    if code == 2:
        if not re.match(r"gmmrec( [a-z]+)*: ", lines[-1]):
            raise Fault("exit code 2 without a sentence in the last line", errors[-500:])
        check_sentence(lines[-1])
        raise Refused(lines[-1])
    log = re.search(r"traceback in (.+\.log)\)", errors)
    text = Path(log[1]).read_text(encoding="utf-8") if log else errors
    raise Fault(f"exit code {code}: {cause_in(text)}", text)


def cause_in(log: str) -> str:
    """Return the type of the exception and the innermost function of gmmrec from the text of a traceback."""
    positions = re.findall(rf'File "{re.escape(PACKAGE)}([^"]+)", line \d+, in (\w+)', log)
    kinds = re.findall(r"^([A-Za-z_][\w.]*)(?::|$)", log, re.MULTILINE)
    kind = kinds[-1].rpartition(".")[2] if kinds else "unknown"
    return kind + (f" in {positions[-1][0]}:{positions[-1][1]}" if positions else "")

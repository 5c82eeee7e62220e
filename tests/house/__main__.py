"""Check the rules of the house that a program can see: ``python -m tests.house``, as ``make lint`` does.

One line per finding: file, line, rule, and what to write instead. ``--pending`` counts what is not refused yet.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.house.models import check_models
from tests.house.rules import RULES
from tests.house.source import Finding, Source, read_sources
from tests.house.vocabulary import Vocabulary, read_vocabulary
from tests.house.words import no_old_words

PENDING = frozenset({"docstring-person", "docstring-question"})
"""Rules that are counted only, until the prose follows them."""


def check(sources: Sequence[Source], known: Vocabulary, *, pending: bool = False) -> Iterator[Finding]:
    """Yield what breaks the rules that hold, or what breaks those that do not hold yet."""
    for source in sources:
        for name, rule in RULES.items():
            if (name in PENDING) is pending:
                yield from (Finding(source.path, line, name, message) for line, message in rule(source, known))
        found = no_old_words(source, known, refused=not pending)
        yield from (Finding(source.path, line, "word", message) for line, message in found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.house", description="Check the rules of the house.")
    parser.add_argument(
        "--pending", action="store_true", help="show what breaks the rules that are not enforced yet, and how often"
    )
    options = parser.parse_args(arguments)
    sources = read_sources()
    known = read_vocabulary(sources)
    if options.pending:
        findings = list(check(sources, known, pending=True))
        print(*findings, sep="\n")
        for (rule, text), count in Counter((f.rule, f.message.split(";")[0].lower()) for f in findings).most_common():
            print(f"{count:5}  {rule}: {text}")
        return 0
    findings = [*check(sources, known), *check_models(sources)]
    for finding in findings:
        print(finding)
    count = f"{len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}"
    print(f"{count} in {len(sources)} files")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())

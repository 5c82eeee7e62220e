"""Check of the house rules: ``python -m tests.house``, part of ``make lint``.

One line per finding: file, line, rule and remedy. ``--pending`` counts findings of rules that are not enforced yet.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.house.models import check_models
from tests.house.rules import RULES
from tests.house.source import Finding, Source, read_sources
from tests.house.vocabulary import Vocabulary, read_vocabulary
from tests.house.words import no_old_words

PENDING: frozenset[str] = frozenset()
"""Rules that are counted, but not enforced yet."""


def check(sources: Sequence[Source], known: Vocabulary, *, pending: bool = False) -> Iterator[Finding]:
    """Yield the findings of enforced rules, or of pending ones."""
    for source in sources:
        for name, rule in RULES.items():
            if (name in PENDING) is pending:
                yield from (Finding(source.path, line, name, message) for line, message in rule(source, known))
        found = no_old_words(source, known, refused=not pending)
        yield from (Finding(source.path, line, "word", message) for line, message in found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.house", description="Check the rules of the house.")
    parser.add_argument("--pending", action="store_true", help="show and count findings of rules that are not enforced yet")
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

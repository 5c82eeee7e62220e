"""``gmmrec models``: the table of models."""

import argparse
import json


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``models``."""
    parser = subparsers.add_parser("models", help="list the available models", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON list and nothing else")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/models/index.md")
    parser.set_defaults(run=models)


def models(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from gmmrec.models import describe_installed, describe_models

    rows = [*describe_models(), *describe_installed()]
    if arguments.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    if arguments.markdown:
        print(to_markdown())
        return 0
    columns = list(rows[0])
    widths = [max(len(column), *(len(row[column]) for row in rows)) for column in columns]
    for row in ({column: column for column in columns}, *rows):
        print("  ".join(row[column].ljust(width) for column, width in zip(columns, widths, strict=True)).rstrip())
    return 0


def to_markdown() -> str:
    """Return the table of docs/models/index.md; names link to the pages beside it."""
    from gmmrec.models import describe_models

    rows = describe_models()
    lines = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
    for row in rows:
        name, *rest = row.values()
        lines.append(f"| [{name}]({name}.md) | {' | '.join(rest)} |")
    return "\n".join(lines)

"""Every rule finds what is planted, and passes what is written as the house writes."""

import pytest

from tests.house.rules import RULES, stem_of
from tests.house.source import Source
from tests.house.vocabulary import read_vocabulary

DECLARATIONS = """
class Query: ...
class UserQuery(Query): ...
class LinkPredictionQuery(query.Query): ...
class Trained(Task): ...
class Mine(Recommender[UserQuery, Settings], Attends): ...
class Heir(Mine): ...
class Attends(Ability): ...
class RankingEvaluation: ...
RANKING = EvaluationKind(name="ranking", task=RankingEvaluation)
CARDS: dict[str, Card] = {"lightgcn": Card("gmmrec.models.lightgcn:LightGCN")}
"""
KNOWN = read_vocabulary([Source("gmmrec/names.py", DECLARATIONS), Source("tests/names.py", "class Other(Query): ...")])


def found(rule: str, text: str, path: str = "gmmrec/module.py") -> list[int]:
    return [line for line, _ in RULES[rule](Source(path, text), KNOWN)]


def test_names_are_read_from_the_declarations():
    expected = {"Query", "UserQuery", "LinkPredictionQuery", "Task", "Trained", "Recommender", "Mine", "Heir", "RankingEvaluation"}
    assert expected == KNOWN.classes
    assert KNOWN.abilities == {"Ability", "Attends"}
    assert KNOWN.kinds == {"RANKING"}
    assert KNOWN.names == {"ranking", "lightgcn"}


BRANCHES = (
    "if isinstance(query, UserQuery): ...",
    "if issubclass(kind, (int, tasks.LinkPredictionQuery)): ...",
    "if isinstance(model, Mine | None): ...",
    "if type(task) is RankingEvaluation: ...",
    "if model.query_type is UserQuery: ...",
    "if model.query_type == query.UserQuery: ...",
    "if model.query_type not in (UserQuery, LinkPredictionQuery): ...",
    "if model.query_type in {UserQuery}: ...",
    "if kind is not RANKING: ...",
    "match query:\n    case UserQuery(): ...",
    "match name:\n    case 'ranking': ...",
    "getattr(batch.query, 'context', None)",
    "getattr(task, 'masked', None)",
    "if name == 'ranking': ...",
    "if 'ranking' != results.kind: ...",
    "if self.model_name in ('lightgcn', 'other'): ...",
)


@pytest.mark.parametrize("text", BRANCHES)
def test_branches_are_found(text):
    assert len(found("no-branch", text)) == 1
    assert found("no-branch", text, "gmmrec/evaluation/kinds.py") == []
    assert found("no-branch", text, "tests/test_mine.py") == []


@pytest.mark.parametrize(
    "text",
    [
        "if isinstance(value, Tensor): ...",
        "class Mine: ...\nif not isinstance(source, Mine): ...",
        "table = {UserQuery: 1}[query_type]",
        "if self.ranking == 'softmax': ...",
        "if popularity == 'ranking': ...",
        "if name == 'image': ...",
        "getattr(query, name)",
        "getattr(log, 'time', None)",
        "match value:\n    case Tensor(): ...\n    case 'image': ...",
    ],
)
def test_what_is_no_branch_passes(text):
    assert found("no-branch", text) == []


@pytest.mark.parametrize(
    "text",
    [
        "if isinstance(model, Attends): ...",
        "if issubclass(model_class, abilities.Attends): ...",
        "if hasattr(model, 'attention'): ...",
        "getattr(self.model, 'attention', None)",
    ],
)
def test_abilities_asked_for_by_hand_are_found(text):
    assert found("abilities", text) == [1]
    assert found("abilities", text, "gmmrec/abilities.py") == []


def test_abilities_asked_for_by_offered_pass():
    for text in ("offered(model, Attends)", "offers(Mine, Attends)", "getattr(module, name)", "isinstance(model, Mine)"):
        assert found("abilities", text) == []


@pytest.mark.parametrize("opening", ["What is known.", "Which rows count.", "How it works", "Whether it fits.", "Where it is."])
def test_docstrings_that_open_with_a_question_are_found(opening):
    text = f'"""{opening}"""\nclass A:\n    """{opening}"""\n    def f():\n        """{opening}"""\n'
    assert found("docstring-question", text) == [1, 3, 5]


def test_other_docstrings_pass():
    text = '"""Whichever it is."""\ndef f():\n    """Return what is known."""\nclass A:\n    x: int\n    """What it holds."""\n'
    assert found("docstring-question", text) == []


@pytest.mark.parametrize(
    ("opening", "is_found"),
    [
        ("Returns the rows.", True),
        ("Copies a tensor.", True),
        ("Scores items.", True),
        ("Return the rows.", False),
        ("Scores of items.", False),
        ("Weights ``[B]``, positive.", False),
        ("Users and items.", False),
        ("Classes by name.", False),
    ],
)
def test_third_persons_are_found(opening, is_found):
    assert found("docstring-person", f'"""{opening}"""') == [1] * is_found


def test_stems_are_verbs():
    words = ("returns", "copies", "matches", "users", "class", "s", "")
    assert [stem_of(word) for word in words] == ["return", "copy", "match", "", "", "", ""]


def test_left_over_work_is_found():
    mark = "# TO" + "DO later"
    assert found("left-over", f"x = 1  {mark}\nraise NotImplementedError('later')\nraise NotImplementedError") == [2, 3, 1]
    assert found("left-over", "x = 1  # all done\nraise ValueError('no')") == []
    assert found("left-over", "raise NotImplementedError", "tests/test_mine.py") == []


@pytest.mark.parametrize(("lines", "expected"), [(400, []), (401, [401])])
def test_long_files_are_found(lines, expected):
    assert found("long-file", "\n" * lines) == expected


def test_numbered_tests_are_found():
    names = ("test_k1_shapes", "test_8_sums", "test_check_2_sums", "test_k_core", "test_2d")
    text = "\n".join(f"def {name}(): ..." for name in names)
    assert found("numbered-test", text, "tests/test_mine.py") == [1, 2, 3]


@pytest.mark.parametrize("text", ["raise ValueError('no')", "raise KeyError(name)", "raise TypeError", "raise builtins.OSError(2)"])
def test_built_in_exceptions_are_found(text):
    assert len(found("errors-for-people", text)) == 1
    assert found("errors-for-people", text, "tests/test_mine.py") == []


def test_errors_for_people_and_exceptions_of_protocols_pass():
    assert (
        found("errors-for-people", "raise UsageError('no')\nraise AttributeError(name)\nraise missing_attribute(name)\nraise") == []
    )


READERS = (
    "np.load(path)",
    "safe_open(path, 'pt')",
    "yaml.safe_load(text)",
    "gzip.GzipFile(path)",
    "pd.read_parquet(path)",
    "Image.open(path)",
    "torch.load(path)",
    "pickle.loads(content)",
)


@pytest.mark.parametrize("text", READERS)
def test_readers_without_bounds_are_found(text):
    assert len(found("reads-through-safety", text)) == 1
    assert found("reads-through-safety", text, "gmmrec/safety/arrays.py") == []
    assert found("reads-through-safety", text, "tests/test_mine.py") == []


def test_readers_that_are_bounded_pass():
    assert (
        found("reads-through-safety", "Image.open(path, formats=FORMATS)\ntorch.load(path, weights_only=True)\nload_arrays(path)")
        == []
    )

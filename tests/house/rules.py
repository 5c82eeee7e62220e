"""Rules on single files. Each yields lines with a message and its remedy."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from tests.house.source import Source
from tests.house.vocabulary import Vocabulary, last_name

Rule: TypeAlias = Callable[[Source, Vocabulary], Iterator[tuple[int, str]]]

MOST_LINES = 400
TABLES = {
    "gmmrec/evaluation/kinds.py": "the table of evaluation kinds",
    "gmmrec/tasks/__init__.py": "the table of tasks by query",
    "gmmrec/recommender.py": "checks the declarations of model classes",
    "gmmrec/abilities.py": "asks for abilities on behalf of all others",
    "gmmrec/models/lookup.py": "distinguishes model classes from other objects of a caller",
    "gmmrec/testing/suite.py": "distinguishes model classes from other objects in tests from outside",
}
"""Files that may branch on queries, kinds and models, and why."""
HASATTR = {
    "gmmrec/recommender.py": "checks whether a class declares its settings, and whether a type is a named tuple",
    "gmmrec/data/encode/hugging_face.py": "inspects models of another library, which have no common class",
}
"""Files that may call ``hasattr``, and why."""
ASKED = {"model", "model_class", "member", "part", "query", "task", "source"}
"""Variables that hold a model, a query or a task."""
NAMED = re.compile(r"(?:^|_)(?:name|kind|task|model|query)$")
"""Variables that hold the name of a kind, a task or a model."""
QUESTION = re.compile(r"(What|Which|How|Whether|Who|Whose|Where|When|Why)\b")
LEFT_OVER = re.compile(r"#.*\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
KIN = {
    "ValueError": "UsageError",
    "KeyError": "UnknownIdError",
    "TypeError": "WrongTypeError",
    "FileNotFoundError": "MissingFileError",
    "RuntimeError": "UsageError",
    "IndexError": "UsageError",
    "OSError": "UsageError",
}
"""Error for people in place of a built-in exception."""
READERS = {
    "np.load": "use load_arrays of gmmrec.safety.arrays",
    "numpy.load": "use load_arrays of gmmrec.safety.arrays",
    "safe_open": "use read_tensors of gmmrec.safety.tensors",
    "load_file": "use read_tensors of gmmrec.safety.tensors",
    "yaml.safe_load": "use read_yaml of gmmrec.safety.documents",
    "yaml.load": "use read_yaml of gmmrec.safety.documents",
    "json.load": "use read_json of gmmrec.safety.documents",
    "gzip.GzipFile": "use open_text or open_bytes of gmmrec.safety.streams",
    "gzip.decompress": "use open_text or open_bytes of gmmrec.safety.streams",
    "pd.read_parquet": "use read_parquet of gmmrec.safety.parquet",
    "pd.read_pickle": "store plain numbers; unpickling runs code",
    "pickle.load": "store plain numbers; unpickling runs code",
    "pickle.loads": "store plain numbers; unpickling runs code",
    "torch.load": "use read_tensors of gmmrec.safety.tensors, or weights_only=True for a file of a package",
    "Image.open": "use open_picture of gmmrec.data.encode.images, or name the formats",
}
"""Readers of other packages, and what bounds them."""
_IMPERATIVES = (
    "add answer apply ask average bring build call carry check choose collect combine come compare compute copy count cut draw "
    "drop encode end explain fill find fit fuse get give hide hold join keep learn leave let load look make map mark mask match "
    "measure merge mix move multiply normalize open order pack pad pick plant predict prepare print project propagate put rank "
    "read record refuse remove repeat replace return round run sample save say score see select send set show sort split stand "
    "start store sum swap take tell thin train turn undo use walk weigh weight write yield"
)
IMPERATIVES = frozenset(_IMPERATIVES.split())
"""Verbs that open docstrings; in the third person they are a finding."""
_NOUNS = (
    "answer copy count cut draw label map mark mask match measure mix order pack rank record run sample save score set sort "
    "split start store sum walk weight weigh"
)
NOUNS = frozenset(_NOUNS.split())
"""Verbs whose third person is also a plural: ``Scores of ...`` is a noun, ``Scores items ...`` is not."""
_NOUN_FOLLOWS = (
    ". , ; : and are as at before behind below by for from in is of on or over that to under where which with within ` [ ("
)
NOUN_FOLLOWS = frozenset(_NOUN_FOLLOWS.split())
"""Words after such a noun."""


def no_branches(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse branches on queries, tasks, kinds of evaluation and models."""
    if source.folder == "tests" or source.path in TABLES:
        return
    own = {node.name for node in source.nodes if isinstance(node, ast.ClassDef)}  # a class may know its own kind
    classes = known.classes - own
    for node in source.nodes:
        if isinstance(node, ast.Call) and last_name(node.func) in ("isinstance", "issubclass") and len(node.args) == 2:
            for name in sorted(names_in(node.args[1]) & classes):
                yield node.lineno, f"{last_name(node.func)} asks for {name}; {REMEDY}"
        elif isinstance(node, ast.MatchClass) and last_name(node.cls) in classes:
            yield node.lineno, f"a case for {last_name(node.cls)}; {REMEDY}"
        elif isinstance(node, ast.MatchValue) and source.folder == "gmmrec" and strings_in(node.value) & known.names:
            yield node.value.lineno, f"a case for {sorted(strings_in(node.value))}; {REMEDY}"
        elif isinstance(node, ast.Call) and last_name(node.func) == "getattr" and node.args:
            if last_name(node.args[0]) in ("query", "task") and len(node.args) == 3:
                yield node.lineno, f"getattr looks for what some kinds of {last_name(node.args[0])} have; {REMEDY}"
        elif isinstance(node, ast.Compare):
            yield from _compared(node, source, known, classes)


REMEDY = "put the difference into the row of its table or a method of the class"


def _compared(node: ast.Compare, source: Source, known: Vocabulary, classes: frozenset[str]) -> Iterator[tuple[int, str]]:
    sides = [node.left, *node.comparators]
    found = sorted(set().union(*map(names_in, sides)) & (classes | known.kinds))
    if found:
        yield node.lineno, f"a comparison with {', '.join(found)}; {REMEDY}"
    elif source.folder == "gmmrec" and any(NAMED.search(last_name(side)) for side in sides):
        for name in sorted(set().union(*map(strings_in, sides)) & known.names):
            yield node.lineno, f"a comparison with the name {name!r}; {REMEDY}"


def abilities_by_offered(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse tests for abilities other than by ``offered`` and ``offers``."""
    if source.folder != "gmmrec" or source.path == "gmmrec/abilities.py":
        return
    for node in source.nodes:
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = last_name(node.func)
        if function in ("isinstance", "issubclass") and len(node.args) == 2:
            for name in sorted(names_in(node.args[1]) & known.abilities):
                yield node.lineno, f"{function} asks for the ability {name}; write offered(model, {name})"
        elif function == "hasattr" and source.path not in HASATTR:
            yield node.lineno, "hasattr looks for a member; declare an ability and write offered(model, Ability)"
        elif function == "getattr" and last_name(node.args[0]) in ASKED - {"query", "task"} and len(node.args) == 3:
            yield node.lineno, "getattr looks for a member; declare an ability and write offered(model, Ability)"


def no_question_words(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse docstrings that open with a question word."""
    for line, text in source.docstrings():
        if word := QUESTION.match(text):
            yield line, f"the docstring opens with {word[1]!r}; open with a noun or an imperative, like 'Return ...'"


def no_third_person(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse docstrings in the third person: ``Return``, not ``Returns``."""
    for line, text in source.docstrings():
        first, second, *_ = [*re.findall(r"[\w'-]+|\S", text.lower()), "", ""]
        verb = stem_of(first)
        if verb and not (verb in NOUNS and second in NOUN_FOLLOWS):
            yield line, f"the docstring opens with {first.capitalize()!r}; write {verb.capitalize()!r}"


def stem_of(word: str) -> str:
    """Return the verb of a third person, empty for other words.

    >>> stem_of("returns"), stem_of("copies"), stem_of("matches"), stem_of("users"), stem_of("class")
    ('return', 'copy', 'match', '', '')
    """
    stems = [word[:-1]] if word.endswith("s") else []
    stems += [word[:-2]] if word.endswith("es") else []
    stems += [word[:-3] + "y"] if word.endswith("ies") else []
    return next((stem for stem in stems if stem in IMPERATIVES), "")


def nothing_left_over(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse unfinished code."""
    if source.folder == "gmmrec":
        for node in source.nodes:
            if isinstance(node, ast.Raise) and node.exc and "NotImplementedError" in names_in(node.exc):
                yield node.lineno, "NotImplementedError; write the code, or declare an abstract method"
    for number, text in enumerate(source.text.splitlines(), 1):
        if found := LEFT_OVER.search(text):
            yield number, f"{found[1]}; do it now, or leave it out"


def errors_for_people(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse built-in exceptions for bad input, which the command line takes for faults of gmmrec."""
    for node in source.nodes if source.folder in ("gmmrec", "benchmarks", "data_scripts") else ():
        if isinstance(node, ast.Raise) and node.exc and (name := last_name(getattr(node.exc, "func", node.exc))) in KIN:
            yield node.lineno, f"{name}; raise {KIN[name]} of gmmrec.errors"


def reads_through_safety(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse readers of other packages, which take what a file declares and unpack it without a bound."""
    if source.folder != "gmmrec" or source.path.startswith("gmmrec/safety/"):
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and not {word.arg for word in node.keywords} & {"formats", "weights_only"}:
            name = ast.unparse(node.func)
            yield from [(node.lineno, f"{name}; {READERS[name]}")] if name in READERS else ()


def short_files(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse long files."""
    lines = source.text.count("\n")
    if lines > MOST_LINES:
        yield lines, f"{lines} lines, at most {MOST_LINES}; move one of its subjects into a file of its own"


def tests_say_what_they_check(source: Source, known: Vocabulary) -> Iterator[tuple[int, str]]:
    """Refuse numbered names of tests."""
    for node in source.nodes if source.folder == "tests" else ():
        if isinstance(node, ast.FunctionDef) and re.match(r"test_(check_)?k?\d+_", node.name):
            yield node.lineno, f"{node.name} is numbered; name what it checks"


def names_in(node: ast.AST) -> set[str]:
    """Return the class names in ``A``, ``module.A``, ``A | B``, ``(A, B)``, ``{A: ...}``."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return set().union(*map(names_in, node.elts))
    if isinstance(node, ast.BinOp):
        return names_in(node.left) | names_in(node.right)
    if isinstance(node, ast.Call):
        return names_in(node.func)
    return {last_name(node)} if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) else set()


def strings_in(node: ast.AST) -> set[str]:
    """Return the strings in ``"a"`` and ``("a", "b")``."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return set().union(*map(strings_in, node.elts))
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


RULES: Mapping[str, Rule] = {
    "no-branch": no_branches,
    "abilities": abilities_by_offered,
    "docstring-question": no_question_words,
    "docstring-person": no_third_person,
    "left-over": nothing_left_over,
    "errors-for-people": errors_for_people,
    "reads-through-safety": reads_through_safety,
    "long-file": short_files,
    "numbered-test": tests_say_what_they_check,
}

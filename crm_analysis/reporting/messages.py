"""The words of reports: gathered from the sources into gettext catalogues, and put into notebooks.

Three kinds of source speak: the library and its pages (`_("…")`, `plural(n, "one", "many")`), the
codes of the tables' categories, which `wording.word_of` turns into words, and the notebooks'
markdown. Of markdown every heading, list item and paragraph is a message of its own: to edit one
sentence puts one paragraph back to be translated and not the page, to wrap lines anew changes
nothing, and a heading that many notebooks share is translated once.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crm_analysis.errors import ReportError
from crm_analysis.wording import LANGUAGES, _

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog, Message

__all__ = ["catalogue_path", "flaws", "gathered", "refreshed", "translate_notebook"]

_KEYWORDS: dict[str, Any] = {"_": None, "plural": (2, 3)}
_MARK = r"[ \t]*(?:[-*+][ \t]+|\d+[.)][ \t]+|>[ \t]?)"
_PIECE = re.compile(
    r"^(?P<fence>```|~~~)[^\n]*\n(?:.*?^(?P=fence)|.*\Z)"
    r"|^[ \t]*#{1,6}[ \t]+(?P<heading>[^\n]+?)[ \t]*#*$"
    rf"|^(?:{_MARK})?(?P<text>[^\s#][^\n]*(?:\n(?!{_MARK}|[ \t]*$|[ \t]*#|```|~~~)[^\n]+)*)",
    re.MULTILINE | re.DOTALL,
)
_PLACEHOLDER = re.compile(r"\{(\w*)[^{}]*\}")
_CODE_NAMES = ("KINDS", "MEASURES", "RUNGS", "SEGMENTS", "STATES", "VALUES")
"""Names under which a family's module keeps the codes that its answers show."""

_ALIKE = 0.8
"""From this likeness on the translation of a message is a draft for a changed one."""

_EMPTY_HEADER = """\
msgid ""
msgstr ""
"Language: {lang}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plural_forms}\\n"
"""


class Found(NamedTuple):
    """A message, or one for one and one for many, and where it stands."""

    message: str | tuple[str, ...]
    path: str
    place: int


# Notebooks --------------------------------------------------------------------------------


def translate_notebook(notebook: Any) -> None:
    """Put a notebook's markdown into the language spoken now; what has no translation stays."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _PIECE.sub(_translated, cell.source)


def _pieces(markdown: str) -> Iterator[str]:
    for piece in _PIECE.finditer(markdown):
        message = _message_of(piece)
        if message:
            yield message


def _message_of(piece: re.Match[str]) -> str:
    """Return a piece's words on one line, however they were wrapped; none for code."""
    return " ".join((piece["heading"] or piece["text"] or "").split())


def _translated(piece: re.Match[str]) -> str:
    message = _message_of(piece)
    words = _(message) if message else message
    if words == message:
        return piece.group()
    which = "heading" if piece["heading"] else "text"
    start, end = (place - piece.start() for place in piece.span(which))
    return piece.group()[:start] + words + piece.group()[end:]


# Sources ----------------------------------------------------------------------------------


def gathered(root: Path) -> list[Found]:
    """Gather every message of the library, its pages, the tables' codes and the notebooks.

    Parameters
    ----------
    root : Path
        The project's root: reads `crm_analysis/` and `notebooks/` below it.

    Returns
    -------
    list of Found
        By path and place, one entry for each place.
    """
    library = root / "crm_analysis"
    found: list[Found] = []
    for path in sorted(library.rglob("*.py")):
        found += _called(path, root, "python")
    for path in sorted(library.rglob("*.j2")):
        found += _called(path, root, "jinja2.ext:babel_extract")
    found += _codes(library / "schema.py", root)
    for path in sorted(library.glob("*/*.py")):
        found += _codes(path, root, names=_CODE_NAMES)
    for path in sorted((root / "notebooks").rglob("*.ipynb")):
        found += _markdown(path, root)
    return sorted(found, key=lambda one: (one.path, one.place))


def _called(path: Path, root: Path, method: str) -> Iterator[Found]:
    from babel.messages.extract import extract_from_file

    for line, message, _comments, _context in extract_from_file(method, path, keywords=_KEYWORDS):
        words = message if isinstance(message, str) else tuple(message)
        yield Found(words, path.relative_to(root).as_posix(), line)


def _codes(path: Path, root: Path, *, names: Sequence[str] = ()) -> Iterator[Found]:
    """Read tuples of codes off a module's source, all or those of some names.

    Reporting imports neither tables nor metrics.
    """
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            target = node.targets[0]
            if names and not (isinstance(target, ast.Name) and target.id in names):
                continue
            for item in node.value.elts:
                if isinstance(item, ast.Constant) and isinstance(item.value, str):
                    words = item.value.replace("_", " ")
                    yield Found(words, path.relative_to(root).as_posix(), item.lineno)


def _markdown(path: Path, root: Path) -> Iterator[Found]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] == "markdown":
            for message in _pieces("".join(cell["source"])):
                yield Found(message, path.relative_to(root).as_posix(), number)


# Catalogues -------------------------------------------------------------------------------


def catalogue_path(root: Path, lang: str) -> Path:
    """Return where a language's catalogue is kept."""
    return root / "reports" / "locale" / lang / "crm.po"


def refreshed(root: Path, lang: str, *, drop: bool = False) -> str:
    """Write a language's catalogue anew from the sources, keeping every translation.

    What is said no longer is kept at the end, marked as obsolete, until it is said again or
    `drop` deletes it. Where a message was changed a little, its translation becomes a draft, marked
    fuzzy, that is not used until the mark is taken away. The head of the file, with its glossary,
    stays as it is. References name files without lines and nothing is dated, so that an edit
    changes no more than it must.

    Returns
    -------
    str
        The text of the file.
    """
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import write_po

    path = catalogue_path(root, lang)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    catalogue = _read(text, lang)
    template = Catalog()
    for one in gathered(root):
        template.add(one.message, locations=[(one.path, one.place)])
    catalogue.update(template, no_fuzzy_matching=True)
    _take_drafts(catalogue)
    body = BytesIO()
    write_po(
        body, catalogue, width=100, omit_header=True, sort_by_file=True, include_lineno=False,
        ignore_obsolete=drop,
    )  # fmt: skip
    return _head(text, catalogue, lang) + "\n" + body.getvalue().decode().strip("\n") + "\n"


def flaws(root: Path, lang: str) -> list[str]:
    """Say what a language's catalogue lacks: nothing, when reports can be written in it.

    Returns
    -------
    list of str
        One sentence for each message without a translation, with other placeholders than its
        translation, changed since it was translated, or no longer said; and one for a file that
        `crm-report messages` would write otherwise.
    """
    path = catalogue_path(root, lang)
    if not path.is_file():
        return [f"There is no catalogue {path.relative_to(root)}."]
    text = path.read_text(encoding="utf-8")
    catalogue = _read(text, lang)
    said = {_id(one.message) for one in gathered(root)}
    known = {_id(message.id): message for message in catalogue if message.id}
    found = [f"not in the catalogue: {one}" for one in sorted(said - set(known))]
    found += [f"said no longer: {one}" for one in sorted(set(known) - said)]
    found += [f"said no longer: {_id(name)}" for name in catalogue.obsolete]
    found += [flaw for message in known.values() for flaw in _flaws_of(message)]
    if not found and text != refreshed(root, lang):
        found.append(f"{path.relative_to(root)} is not as 'crm-report messages' writes it")
    return found


def _flaws_of(message: Message) -> Iterator[str]:
    name = _id(message.id)
    if message.fuzzy:
        yield f"changed since it was translated: {name}"
    texts = _texts(message)
    if not all(texts):
        yield f"without a translation: {name}"
        return
    asked = _placeholders(message.id if isinstance(message.id, str) else message.id[-1])
    for text in texts:
        if _placeholders(text) != asked:
            yield f"with other placeholders in its translation: {name} -> {text}"


def _take_drafts(catalogue: Catalog) -> None:
    """Give a new message the translation of the one it was before, as a draft; of an equal, whole.

    Babel would do it too, but from a likeness at which every two short words are alike.
    """
    for name, old in list(catalogue.obsolete.items()):
        if not any(_texts(old)):
            del catalogue.obsolete[name]
    for message in catalogue:
        if not message.id or any(_texts(message)):
            continue
        name = _id(message.id)
        alike = get_close_matches(name, map(_id, catalogue.obsolete), n=1, cutoff=_ALIKE)
        if not alike:
            continue
        old = catalogue.obsolete[alike[0]]
        if isinstance(old.id, str) == isinstance(message.id, str):
            del catalogue.obsolete[alike[0]]
            message.string = old.string
            if alike[0] != name:
                message.flags.add("fuzzy")


def _texts(message: Message) -> tuple[str, ...]:
    string = message.string or ""
    return (string,) if isinstance(string, str) else tuple(string)


def _placeholders(text: str) -> set[str]:
    return set(_PLACEHOLDER.findall(text))


def _id(message: str | Sequence[str]) -> str:
    return message if isinstance(message, str) else message[0]


def _read(text: str, lang: str) -> Catalog:
    from babel.messages.pofile import read_po

    return read_po(BytesIO(text.encode()), locale=lang)


def _head(text: str, catalogue: Catalog, lang: str) -> str:
    """Return the file's first entry with its comments, as it stands; a bare one for a new file."""
    if text:
        return text.partition("\n\n")[0] + "\n"
    return _EMPTY_HEADER.format(lang=lang, plural_forms=catalogue.plural_forms)


def catalogues(root: Path) -> Mapping[str, Path]:
    """Return the catalogue of every language but English, the language of the sources.

    Raises
    ------
    ReportError
        Not called from a checkout, where the sources are.
    """
    if not (root / "crm_analysis" / "wording.py").is_file():
        raise ReportError(
            f"The messages of the sources were asked for, and {root} does not hold them. Run this "
            "in a checkout of the project."
        )
    return {lang: catalogue_path(root, lang) for lang in LANGUAGES if lang != "en"}

"""What a notebook may be asked: its parameters, read without running anything.

papermill accepts a misspelt name, a wrong type and an impossible date, and makes the report
all the same, with the default. So the cell tagged `parameters` is read here with `ast`, and
every value is checked before a kernel starts.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from crm_analysis.errors import ReportError, listed, near

__all__ = ["Parameter", "Value", "check_values", "parse_values", "read_parameters"]

Kind = Literal["str", "int", "float", "bool", "date", "computed"]
Scalar = str | int | float | bool
Value = Scalar | list[str] | list[int] | list[float] | Mapping[str, Scalar] | None

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MAPPING = re.compile(r"\b[Dd]ict\b(\[\s*\w+\s*,\s*(?P<kind>\w+))?")
_WORDS_FOR = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "date": "a date like 2026-06-30",
    "computed": "a value computed by the notebook",
}
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook.

    Attributes
    ----------
    name : str
    kind : {"str", "int", "float", "bool", "date", "computed"}
        `computed` is a default that is not a plain value; it cannot be set from outside.
    is_list, optional : bool
        Whether several values are taken, and whether none (`None`) is.
    is_mapping : bool
        Whether values by name are taken (`dict[str, float]`); `kind` is that of each value.
    default : value
        As written in the notebook (None when `computed`).
    help : str
        The comment beside it.
    choices : tuple
        The only values taken, from `Literal[…]`; empty when free.
    """

    name: str
    kind: Kind
    is_list: bool = False
    optional: bool = False
    default: Value = None
    help: str = ""
    choices: tuple[Scalar, ...] = ()
    is_mapping: bool = False

    @property
    def expects(self) -> str:
        """What the parameter takes, in words for a message."""
        words = _WORDS_FOR[self.kind]
        if self.choices:
            words = f"one of {listed(self.choices)}"
        if self.is_list:
            words = f"a list, each item {words}"
        if self.is_mapping:
            words = f"names with values, each value {words}"
        return f"{words}, or nothing" if self.optional else words


def read_parameters(notebook: Path) -> tuple[Parameter, ...]:
    """List the parameters of a notebook, in the order in which it states them.

    Parameters
    ----------
    notebook : Path
        A Jupyter notebook (format 4). A notebook without a cell tagged `parameters` has none.

    Raises
    ------
    ReportError
        The file is not a notebook, is not for Python, or its parameters cell cannot be read.
    """
    document = _load(notebook)
    cells = [cell for cell in document["cells"] if _is_tagged(cell, "parameters")]
    if len(cells) > 1:
        raise ReportError(
            f"The notebook {notebook} has {len(cells)} cells tagged 'parameters'. "
            "Keep one: values from outside are put in just after it."
        )
    source = "".join(cells[0]["source"]) if cells else ""
    try:
        return _parse(source)
    except SyntaxError as error:
        raise ReportError(
            f"The parameters cell of {notebook} is not plain Python (line {error.lineno}: "
            f"{error.msg}). Write one 'name: type = value  # help' a line."
        ) from error


def check_values(
    parameters: Iterable[Parameter], values: Mapping[str, object], *, notebook: str
) -> dict[str, Value]:
    """Check typed values (from a plan) against a notebook's parameters.

    Raises
    ------
    ReportError
        A name the notebook does not have, or a value of another type.
    """
    known = {item.name: item for item in parameters}
    return {
        name: _checked(_known(known, name, notebook), value, notebook)
        for name, value in values.items()
    }


def parse_values(
    parameters: Iterable[Parameter], assignments: Iterable[str], *, notebook: str
) -> dict[str, Value]:
    """Check `name=value` texts (from a command line) against a notebook's parameters.

    Lists are written `a,b` or as JSON, values by name `a=1,b=2` or as JSON; nothing after the
    sign means none.

    Raises
    ------
    ReportError
        A text without '=', a name the notebook does not have, or a value of another type.
    """
    known = {item.name: item for item in parameters}
    values: dict[str, object] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise ReportError(
                f"A parameter was given as {assignment!r}, without a value. Write -p name=value."
            )
        parameter = _known(known, name.strip(), notebook)
        values[parameter.name] = _from_text(parameter, text.strip(), notebook)
    return check_values(known.values(), values, notebook=notebook)


def _load(notebook: Path) -> dict[str, Any]:
    try:
        document = json.loads(notebook.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(
            f"The notebook {notebook} cannot be opened: {error.strerror}. "
            "'crm-report list' shows the notebooks there are."
        ) from error
    except ValueError as error:
        raise ReportError(f"{notebook} is not a notebook: it is not JSON ({error}).") from error
    if not isinstance(document, dict) or not isinstance(document.get("cells"), list):
        raise ReportError(
            f"{notebook} is not a notebook of format 4: it has no cells. "
            "Save it again from JupyterLab."
        )
    spec = document.get("metadata", {}).get("kernelspec", {})
    if spec.get("language", "python").casefold() != "python":
        raise ReportError(
            f"The notebook {notebook} is for {spec['language']}. Only Python notebooks are run."
        )
    return document


def _is_tagged(cell: Mapping[str, object], tag: str) -> bool:
    metadata = cell.get("metadata")
    tags = metadata.get("tags", []) if isinstance(metadata, dict) else []
    return cell.get("cell_type") == "code" and tag in tags


def _parse(source: str) -> tuple[Parameter, ...]:
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
    text = "\n".join(lines)
    comments = _comments(text)
    found: dict[str, Parameter] = {}
    for node in ast.parse(text).body:
        named = _assignment(node)
        if named is not None:
            name, annotation, value = named
            help_text = comments.get(node.end_lineno or node.lineno, "")
            found[name] = _parameter(name, annotation, value, help_text)
    return tuple(found.values())


def _comments(text: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _assignment(node: ast.stmt) -> tuple[str, ast.expr | None, ast.expr] | None:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        return node.target.id, node.annotation, node.value
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Name):
            return target.id, None, node.value
    return None


def _parameter(
    name: str, annotation: ast.expr | None, value: ast.expr, help_text: str
) -> Parameter:
    try:
        default = ast.literal_eval(value)
    except ValueError:
        return Parameter(name, "computed", help=help_text)
    if isinstance(default, tuple):
        default = list(default)
    if mapping := _mapping(annotation, default):
        kind, optional = mapping
        return Parameter(name, kind, False, optional, default, help_text, is_mapping=True)
    kind, is_list, optional, choices = _shape(annotation, default)
    if kind == "str" and not is_list and _looks_like_date(name, default):
        kind = "date"
    return Parameter(name, kind, is_list, optional or default is None, default, help_text, choices)


def _mapping(annotation: ast.expr | None, default: object) -> tuple[Kind, bool] | None:
    """Return the kind of a mapping's values and whether none is taken; None for anything else."""
    words = ast.unparse(annotation).strip("'\"") if annotation is not None else ""
    named = _MAPPING.search(words)
    if named is None and not isinstance(default, dict):
        return None
    values = list(default.values()) if isinstance(default, dict) else []
    kind = named["kind"] if named is not None else None
    if kind not in ("str", "int", "float", "bool"):
        kind = _shape_of_value(values[0] if values else 0.0)[0]
    return kind, default is None or "None" in words or "Optional" in words  # type: ignore[return-value]


def _looks_like_date(name: str, default: object) -> bool:
    return name == "as_of" or (
        isinstance(default, str) and _ISO_DATE.fullmatch(default) is not None
    )


_Shape = tuple[Kind, bool, bool, tuple[Scalar, ...]]


def _shape(annotation: ast.expr | None, default: object) -> _Shape:
    if annotation is None:
        return _shape_of_value(default)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _shape(ast.parse(annotation.value, mode="eval").body, default)
    if isinstance(annotation, ast.BinOp):  # X | None
        sides = [side for side in (annotation.left, annotation.right) if not _is_none(side)]
        kind, is_list, _optional, choices = _shape(sides[0], default)
        return kind, is_list, len(sides) == 1, choices
    if isinstance(annotation, ast.Subscript):
        return _shape_of_subscript(annotation, default)
    name = _name(annotation)
    if name in ("str", "int", "float", "bool", "date"):
        return name, False, False, ()  # type: ignore[return-value]
    return _shape_of_value(default)


def _shape_of_subscript(annotation: ast.Subscript, default: object) -> _Shape:
    outer = _name(annotation.value)
    if outer == "Literal":
        choices = ast.literal_eval(annotation.slice)
        choices = choices if isinstance(choices, tuple) else (choices,)
        return _shape_of_value(choices[0])[0], False, None in choices, choices
    inner = _shape(annotation.slice, None)
    if outer == "Optional":
        return inner[0], inner[1], True, inner[3]
    if outer in ("list", "List"):
        return inner[0], True, False, inner[3]
    return _shape_of_value(default)


def _shape_of_value(value: object) -> _Shape:
    if isinstance(value, list):
        return _shape_of_value(value[0])[0] if value else "str", True, False, ()
    if isinstance(value, bool):
        return "bool", False, False, ()
    if isinstance(value, int):
        return "int", False, False, ()
    if isinstance(value, float):
        return "float", False, False, ()
    return "str", False, value is None, ()


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _known(known: Mapping[str, Parameter], name: str, notebook: str) -> Parameter:
    if name in known:
        return known[name]
    raise ReportError(
        f"The notebook {notebook!r} has no parameter {name!r}{near(name, known)}. "
        f"It has: {listed(known)}. 'crm-report list' shows what each one means."
    )


def _refused(parameter: Parameter, value: object, notebook: str) -> ReportError:
    return ReportError(
        f"The parameter {parameter.name!r} of {notebook!r} takes {parameter.expects}; "
        f"it was given {value!r}. Its default is {parameter.default!r}."
    )


def _checked(parameter: Parameter, value: object, notebook: str) -> Value:
    if isinstance(value, date):
        value = value.isoformat()
    if parameter.kind == "computed":
        raise ReportError(
            f"The parameter {parameter.name!r} of {notebook!r} is computed by the notebook, so it "
            "cannot be set. Give it a plain default value to make it settable."
        )
    if value is None:
        if parameter.optional:
            return None
        raise _refused(parameter, value, notebook)
    if parameter.is_mapping:
        return _values_by_name(parameter, value, notebook)
    if not parameter.is_list:
        return _scalar(parameter, value, notebook)
    if not isinstance(value, list):
        raise _refused(parameter, value, notebook)
    return [_scalar(parameter, item, notebook) for item in value]  # type: ignore[return-value]


def _values_by_name(parameter: Parameter, value: object, notebook: str) -> dict[str, Scalar]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _refused(parameter, value, notebook)
    return {name: _scalar(parameter, item, notebook) for name, item in value.items()}


def _scalar(parameter: Parameter, value: object, notebook: str) -> Scalar:
    kind = parameter.kind
    if kind == "float" and type(value) is int:
        value = float(value)
    wanted = {"int": int, "float": float, "bool": bool}.get(kind, str)
    right = type(value) is wanted
    if right and kind == "date":
        right = _is_iso_date(str(value))
    if not right or (parameter.choices and value not in parameter.choices):
        raise _refused(parameter, value, notebook)
    assert isinstance(value, str | int | float)
    return value


def _is_iso_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return _ISO_DATE.fullmatch(text) is not None


def _from_text(parameter: Parameter, text: str, notebook: str) -> object:
    if parameter.optional and text.casefold() in ("", "none", "null"):
        return None
    if not (parameter.is_list or parameter.is_mapping):
        return _scalar_from_text(parameter, text, notebook)
    if text.startswith("{" if parameter.is_mapping else "["):
        try:
            return json.loads(text)
        except ValueError:
            raise _refused(parameter, text, notebook) from None
    items = [item.strip() for item in text.split(",") if item.strip()]
    if parameter.is_mapping:
        pairs = [item.partition("=") for item in items]
        if not all(sign for _name, sign, _value in pairs):
            raise _refused(parameter, text, notebook)
        return {
            name.strip(): _scalar_from_text(parameter, value.strip(), notebook)
            for name, _sign, value in pairs
        }
    return [_scalar_from_text(parameter, item, notebook) for item in items]


def _scalar_from_text(parameter: Parameter, text: str, notebook: str) -> object:
    try:
        if parameter.kind == "int":
            return int(text)
        if parameter.kind == "float":
            return float(text)
    except ValueError:
        raise _refused(parameter, text, notebook) from None
    if parameter.kind == "bool" and text.casefold() in _TRUE | _FALSE:
        return text.casefold() in _TRUE
    return text

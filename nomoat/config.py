"""Configuration: frozen, strict, and able to say what is wrong with it; files read and written whole.  No
torch here.

The error tree of the project (the command line prints a UserError without a traceback and exits with 2;
anything else is a bug and keeps its traceback):

    UserError
    ├── ConfigError    a recipe, a key, a value or a pair of values that cannot be
    ├── DataError      text, shards, run directories
    ├── TaskError      a decidable task that breaks its contract
    └── WeightsError   checkpoints, tokenizers and exports that do not belong together

Every message says what was found, what was expected and what to do.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

LEFT_OUT = ("kernels", "mesh")  # tables that a recipe may leave out


class UserError(Exception):
    """Something that the person at the keyboard can mend; `told`: another rank of this machine says it."""

    told = False


class ConfigError(UserError):
    """A recipe, key or value that cannot be."""


class DataError(UserError):
    """Text, shards or run directories that cannot be used."""


class TaskError(UserError):
    """A task that breaks its contract."""


class WeightsError(UserError):
    """Weights, tokenizers or exports that do not belong together."""


class Strict(BaseModel):
    """Base of every configuration record: immutable, no unknown keys, no silent conversion but of whole
    numbers to floats.  Every number has a range.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, table: Any) -> Any:
        """TOML and JSON have lists where a record has tuples."""
        if not isinstance(table, Mapping):
            return table
        tuples = {name for name, field in cls.model_fields.items() if "tuple" in str(field.annotation)}
        return {k: tuple(v) if isinstance(v, list) and k in tuples else v for k, v in table.items()}


MOST = 2**40  # of anything that is counted: what follows from it still fits into 64 bits
Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=10)]  # of learning
Amount = Annotated[float, Field(ge=0, le=1e30)]
Word = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0, le=1e30)]

C = TypeVar("C", bound=Strict)
T = TypeVar("T")
JsonObject = dict[str, Any]  # also a table of TOML


def nearest(word: str, known: Sequence[str]) -> str:
    """' Did you mean …?' for a word close to a known one, else the list of what is known."""
    if not known:
        return "nothing is known by a name here"
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(sorted(known))}"


def look_up(name: object, table: Mapping[str, T], complaint: str) -> T:
    """What is called so; ConfigError with the nearest right name, if nothing is."""
    if name not in table:
        raise ConfigError(f"{complaint}; {nearest(str(name), list(table))}")
    return table[name]


def parse(cls: type[C], table: JsonObject, where: str) -> C:
    """`table` as a `cls`, or one ConfigError that lists each wrong key with its place, value and cure."""
    try:
        return cls.model_validate(table)
    except ValidationError as error:
        raise ConfigError("\n".join(_complaint(cls, item, where) for item in error.errors())) from None


def _complaint(cls: type[Strict], item: JsonObject, where: str) -> str:
    """One wrong key: its place, its value, the cure."""
    record, keys = cls, []
    for part in item["loc"]:  # a part of the place may be the kind of a record, which is no key
        options = _records(record, keys[-1]) if keys else {}
        if part in options:
            record = options[part]
            continue
        if keys:
            record = options.get(None, record)
        keys.append(part)
    path = ".".join(str(part) for part in (where, *keys) if part != "")
    if item["type"] == "extra_forbidden":
        return f"unknown key `{path}`; {_home(record, str(keys[-1]), path)}"
    if item["type"] == "union_tag_invalid":
        kind, kinds = item["ctx"]["tag"], re.findall(r"'(.+?)'", item["ctx"]["expected_tags"])
        return f"`{path}.kind` = {kind!r}; {nearest(kind, kinds)}"
    if item["type"] in ("missing", "union_tag_not_found"):
        path += ".kind" if item["type"] == "union_tag_not_found" else ""
        return f"missing key `{path}`; add it"
    value = "" if isinstance(item["input"], Mapping) else f" = {item['input']!r:.200}"
    return f"`{path}`{value}: {_in_words(item)}"


RANGES = {
    "greater_than_equal": "expected {ge} or more; choose such a number",
    "less_than_equal": "expected {le} or less; choose such a number",
    "greater_than": "expected more than {gt}; choose such a number",
    "less_than": "expected less than {lt}; choose such a number",
    "too_short": "expected {min_length} or more of them; add some",
    "string_too_short": "expected a word; write one, or leave the key out",
    "too_long": "expected {max_length} of them or fewer; leave some out",
    "multiple_of": "expected a multiple of {multiple_of}; choose such a number",
    "finite_number": "expected a finite number; choose one",
    "int_type": "expected a whole number; write one, without quotes and point",
    "int_from_float": "expected a whole number; write one, without a point",
    "float_type": "expected a number; write one, without quotes",
    "bool_type": "expected true or false; write one of them, without quotes",
    "string_type": "expected a text; write it in quotes",
    "list_type": "expected a list; write it in [ ]",
    "tuple_type": "expected a list; write it in [ ]",
    "dict_type": "expected a table; write it in {{ }}",
    "literal_error": "expected one of {expected}; choose one",
}


def _in_words(item: JsonObject) -> str:
    """What was expected instead of a value, and what to do."""
    words = RANGES.get(item["type"])
    if words is not None:
        return words.format(**item.get("ctx", {}))
    told = item["msg"].removeprefix("Value error, ")
    return told if item["type"] == "value_error" else f"{told}; change it"


def _home(record: type[Strict], key: str, path: str) -> str:
    """Where a key that stands in the wrong place belongs, or the nearest key of this one."""
    for field in record.model_fields:
        if any(key in inner.model_fields for inner in _records(record, field).values()):
            return f"it is `{path.removesuffix(key)}{field}.{key}`"
    return nearest(key, list(record.model_fields))


def _records(cls: type[Strict], key: Any) -> dict[str | None, type[Strict]]:
    """The records that a field may hold, by their kind, None where there is but one."""
    annotation = cls.model_fields[key].annotation if key in cls.model_fields else None
    records = [kind for kind in _inside(annotation) if isinstance(kind, type) and issubclass(kind, Strict)]
    if len(records) == 1:
        return {None: records[0]}
    return {get_args(record.model_fields["kind"].annotation)[0]: record for record in records}


def _inside(annotation: Any) -> list[Any]:
    """A type and all types in its brackets."""
    return [annotation, *(inner for argument in get_args(annotation) for inner in _inside(argument))]


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> JsonObject:
    """The table in a recipe file, or in a shipped recipe by its name, with `stage.key=value`,
    `models.name.key=value` or `key=value` applied on top.
    """
    try:
        recipe = tomllib.loads(_recipe_file(path).read_text("utf-8-sig"))
    except OSError as error:
        names = list(shipped_recipes())
        raise ConfigError(
            f"no recipe at {path} ({error.strerror}); expected a TOML file, or the name of a recipe that "
            f"ships with nomoat; {nearest(Path(path).stem, names)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    places = [text.partition("=")[0].strip() for text in overrides]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise ConfigError(f"`{twice}` is set {places.count(twice)} times; expected once; drop the others")
    for text in overrides:
        override(recipe, text)
    return recipe


def shipped_recipes() -> dict[str, Path]:
    """Recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(Path(__file__).with_name("recipes").glob("*.toml"))}


def _recipe_file(path: str | Path) -> Path:
    """The file at `path`, or the shipped recipe of that name where there is none."""
    path = Path(path)
    return path if path.is_file() else shipped_recipes().get(str(path), path)


def override(recipe: JsonObject, text: str) -> None:
    """Apply one `place.key=value` to a recipe table; the value is read as TOML, or as a bare word."""
    place, equals, raw = text.partition("=")
    if not equals or not place.strip():
        raise ConfigError(f"`--set {text}` has no `=`; expected `--set stage.key=value`")
    try:
        value = tomllib.loads(f"v = {raw.strip()}")["v"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    *parents, key = place.strip().split(".")
    table: Any = recipe
    for depth, parent in enumerate(parents):
        stages = {s.get("name", s.get("kind")): s for s in recipe.get("stages", [])} if depth == 0 else {}
        if parent in stages:
            table = stages[parent]
        elif depth > 0 or parent in LEFT_OUT or isinstance(table.get(parent), dict):
            if table.get(parent) is None:
                table[parent] = {}  # a new table's keys are checked with the rest of the recipe
            table = table[parent]
        else:
            places = [*stages, *(k for k, v in table.items() if isinstance(v, dict))]
            raise ConfigError(f"`--set {text}`: no `{parent}` in the recipe; {nearest(parent, places)}")
        if not isinstance(table, dict):
            raise ConfigError(f"`--set {text}`: `{parent}` is {table!r}, no table; set it as a whole")
    table[key] = value

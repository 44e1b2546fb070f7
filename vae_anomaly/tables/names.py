"""Names of columns: in messages, and what their words say of rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence

_MOST_LISTED = 10
# Words of a name that say that whole numbers name rows; the second only as the last word.
ID_WORDS = {"id", "ids", "uid", "uuid", "guid", "identifier", "key", "pk", "rowid", "unnamed"}
LAST_ID_WORDS = {"no", "nr", "num", "number", "nummer", "index", "idx", "serial", "row", "record"}


def listed(names: Iterable[object], most: int = _MOST_LISTED) -> str:
    """Return names separated by commas: the first ``most``, and how many there are.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2)
    'a, b, ... (3 in all)'
    """
    texts = [str(name) for name in names]
    more = f", ... ({len(texts)} in all)" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def with_nearest(name: str, candidates: Iterable[str]) -> str:
    """Return a name in quotes, with the most similar of the candidates if one is near.

    Examples
    --------
    >>> with_nearest("age", ["Age", "city"])
    "'age' (did you mean 'Age'?)"
    """
    lowered = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f"{name!r} (did you mean {lowered[near[0]]!r}?)" if near else f"{name!r}"


def differences(
    names: Sequence[str], expected: Collection[str], ignored: Iterable[str] = ()
) -> dict[str, str]:
    """Return how the names of a table differ from those expected, in any order.

    Parameters
    ----------
    names : sequence of str
        Of the table.
    expected : collection of str
    ignored : iterable of str
        Names that may be there too.

    Returns
    -------
    dict of str to str
        Names in quotes: under "missing", each with the nearest one of the table; under
        "unexpected". Empty if the names are as expected.

    Examples
    --------
    >>> differences(["b", "amuont", "id"], ["amount", "b"], ["id"])
    {'missing': "'amount' (did you mean 'amuont'?)", 'unexpected': "'amuont'"}
    """
    present, allowed = set(names), {*expected, *ignored}
    others = [name for name in names if name not in expected]
    missing = [with_nearest(name, others) for name in expected if name not in present]
    unexpected = [f"{name!r}" for name in names if name not in allowed]
    found = {"missing": missing, "unexpected": unexpected}
    return {what: listed(names) for what, names in found.items() if names}


def names_rows(name: str) -> bool:
    """Whether a name says that whole numbers name rows.

    Examples
    --------
    >>> [names_rows(name) for name in ("PassengerId", "order_no", "number_of_rooms", "humid")]
    [True, True, False, False]
    """
    found = words(name)
    return bool(ID_WORDS & set(found)) or bool(LAST_ID_WORDS & set(found[-1:]))


def words(name: str) -> list[str]:
    """Return the words of a name, in small letters.

    Examples
    --------
    >>> words("orderID, lastSeen_at")
    ['order', 'id', 'last', 'seen', 'at']
    """
    split = re.sub(r"(?<=[a-z\d])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", split.lower())

"""What is left of fields that nobody declared: plain numbers and flags; everything else becomes an HMAC.

A producer's undeclared fields may hold anything, names and addresses included, and no rule can tell a name
from a code. So a text stays only where the source says so (`extra_keep`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlglot
from sqlglot import exp

from exp_pipeline.transform.identity import hmac_of

# A longer number may be a person's (a student or telephone number).
MOST_DIGITS = 6
PLAIN_KEY = "[A-Za-z_][A-Za-z0-9_.:-]{0,63}"
# Keys under which a number is an id, or says when somebody was born or where they live.
PERSONAL_KEY = (
    "(?i)(^|[_.:-])(ids?|uid|uuid|e?mail|name|phone|tel|mobile|ssn|address|ip|user|student|learner|pupil|"
    "teacher|parent|child|birth[a-z]*|dob|zip|postcode|lat|latitude|lon|lng|longitude)($|[_.:-])"
)
CAMEL_ID = "[a-z0-9](Id|ID|Uid|UUID|Email|Phone|Name)s?$"

_TEXT = "cast(e.value as varchar)"
_NOT_PERSONAL = f"not regexp_matches(e.key, '{PERSONAL_KEY}') and not regexp_matches(e.key, '{CAMEL_ID}')"
_NUMBER = f"-?[0-9]{{1,{MOST_DIGITS}}}([.][0-9]+)?([eE][-+]?[0-9]+)?"
_PLAIN_NUMBER = f"regexp_full_match({_TEXT}, '{_NUMBER}') and {_NOT_PERSONAL}"
# Without its plain keys nothing of it is text, and no number in it is long.
_PLAIN_NESTED = (
    f"not contains(regexp_replace({_TEXT}, '\"[A-Za-z_]{{1,40}}\":', '', 'g'), '\"') "
    f"and not regexp_matches({_TEXT}, '[0-9]{{{MOST_DIGITS + 1},}}') and {_NOT_PERSONAL}"
)
_KEY = (
    f"case when regexp_full_match(e.key, '{PLAIN_KEY}') and not regexp_matches(e.key, '[0-9]{{3,}}') "
    "then e.key else 'key-' || left(hmac_of_key, 12) end"
)
_VALUE = (
    "case when e.value is null then 'null' "
    f"when kept or json_type(e.value) = 'BOOLEAN' then {_TEXT} "
    f"when json_type(e.value) in ('UBIGINT', 'BIGINT', 'DOUBLE') and {_PLAIN_NUMBER} then {_TEXT} "
    f"when json_type(e.value) in ('OBJECT', 'ARRAY') and {_PLAIN_NESTED} then {_TEXT} "
    "else '{\"hmac\":\"' || left(hmac_of_value, 32) || '\",\"chars\":' || length(e.value ->> '$') || '}' end"
)
# Read once: an object that names a key twice is no map and becomes one HMAC.
_WHOLE = (
    "case when extra is not null then list_transform("
    "[try_cast(try_cast(extra as json) as map(varchar, json))], lambda m: case when m is null "
    'then \'{"extra":{"hmac":"\' || left(hmac_of_all, 32) || \'","chars":\' || length(extra) || \'}}\' '
    "else '{' || array_to_string(list_transform(map_entries(m), "
    "lambda e: cast(to_json(reduced_key) as varchar) || ':' || reduced_value), ',') || '}' end)[1] end"
)


def reduced_extra(extra: exp.Expr, keep: Sequence[str] = ()) -> exp.Expr:
    """A JSON object of undeclared fields without texts and ids; parameters inner_pad, outer_pad.

    Kept as they are: the values of `keep`, true, false and null, numbers of up to 6 digits before the point
    whose key does not sound personal, and lists and objects of nothing but these under plain keys. Anything
    else becomes {"hmac": 32 hex digits, "chars": its length}; equal values of one key have equal HMACs, which
    are not those of ids. A key that is no plain name becomes `key-` with 12 hex digits.
    """
    kept: exp.Expr = exp.false()
    if keep:
        kept = exp.In(this=_duck("e.key"), expressions=[exp.Literal.string(name) for name in keep])
    key = _filled(_duck(_KEY), {"hmac_of_key": hmac_of(_duck("'key=' || e.key"))})
    value = _filled(
        _duck(_VALUE), {"kept": kept, "hmac_of_value": hmac_of(_duck("e.key || '=' || (e.value ->> '$')"))}
    )
    whole = {"extra": extra, "hmac_of_all": hmac_of(extra), "reduced_key": key, "reduced_value": value}
    return _filled(_duck(_WHOLE), whole)


# Ids of records, which products like to build from the id of the learner.
RECORD_IDS = ("event_id", "session_id", "conversation_id", "turn_id")
# Fields whose values are single words: a sentence in one of them is in the wrong place.
ONE_WORD = ("event_name", "schema_version", "role", "locale")
MOST_CHARS, MOST_AGENT_CHARS = 128, 512
# A shorter id is part of many a word.
LEAST_ID_CHARS = 6


def guarded(name: str, value: exp.Expr, learner: exp.Expr, *, one_word: bool = False) -> exp.Expr:
    """A declared text field that is no id and no free text, made an HMAC where it looks like one.

    That is where it is longer than 128 characters, holds an @, is a sentence where one word belongs, or is a
    record's id that contains the learner's raw id. Equal values stay equal: `hmac-` and 32 hex digits. A user
    agent may have 512 characters and only loses its addresses. Parameters inner_pad, outer_pad.
    """
    if name == "user_agent":
        # Robots write a mail address into theirs; the rest of it is what they are known by.
        agent = (
            f"case when strlen(x) > {MOST_AGENT_CHARS} then 'hmac-' || left(hmac_of_value, 32) "
            "when contains(x, '@') then regexp_replace(x, '[^ <>();,:]*@[^ <>();,]*', '@', 'g') else x end"
        )
        return _filled(_duck(agent), {"x": value, "hmac_of_value": hmac_of(value)})
    tests = [f"strlen(x) > {MOST_CHARS}", "contains(x, '@')"]
    if one_word or name in ONE_WORD:
        tests.append("contains(x, ' ')")
    if name in RECORD_IDS:
        tests.append(f"(strlen(learner) >= {LEAST_ID_CHARS} and contains(x, learner))")
    text = f"case when {' or '.join(tests)} then 'hmac-' || left(hmac_of_value, 32) else x end"
    return _filled(_duck(text), {"x": value, "learner": learner, "hmac_of_value": hmac_of(value)})


def _duck(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, dialect="duckdb")


def _filled(tree: exp.Expr, parts: Mapping[str, exp.Expr]) -> exp.Expr:
    def fill(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.table and node.name in parts:
            return exp.paren(parts[node.name].copy())
        return node

    return tree.transform(fill)

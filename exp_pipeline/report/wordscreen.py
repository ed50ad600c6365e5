"""Sentences without small cells: counts of fewer units than may be printed are taken out of words too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from exp_pipeline.model.base import Noun
from exp_pipeline.model.brief import Brief
from exp_pipeline.model.readout import Cause, IntegrityCheck, Provenance, Readout
from exp_pipeline.report.screening import WITHHELD, Screen

# Fields of results that hold sentences of the analysis. Briefs and provenance are people's own words.
_SENTENCES = frozenset(
    {
        "evidence", "because", "summary", "reason", "note", "choice", "blinding_reason", "limits",
        "next_steps", "flags", "steady_because", "method",
    }
)  # fmt: skip
# What a number before one of these counts is not units: it may be printed however small.
_NOT_UNITS = frozenset(
    {
        "and", "or", "to", "of", "a", "an", "the", "on", "at", "by", "for", "from", "with", "than", "per",
        "times", "against", "more", "check", "group", "day", "week", "month", "hour", "minute", "second", "m",
        "pp", "usd", "min", "h", "arm", "metric", "guardrail", "segment", "value", "stage", "look", "step",
        "kind", "field", "row", "event", "response", "session", "clas", "cluster", "stratum", "strata",
        "version", "place", "degree", "covariate", "column", "period", "familie", "comparison", "change",
        "bucket", "warning", "integrity", "planned", "fail", "passe", "pas", "percent", "percentage",
        "quarantined", "excluded",
    }
)  # fmt: skip
# Of the numbers beside a check, those whose names say that they count something else.
_NUMBERS_OF_OTHERS = frozenset(
    {
        "broken", "changes", "classes", "clusters", "comparisons", "days", "degrees", "events", "fields",
        "gaps", "groups", "kinds", "responses", "rows", "sessions", "uneven",
    }
)  # fmt: skip
_NAMED = r"(?:grade|year|week|day|look|level|version|stage|step|rank|no\.|k|snapshot|to|of)"
_SMALL = re.compile(r"(?<![\w.,:/%+\-\N{MINUS SIGN}])(?<!\d )(\d{1,4})(?= (\(?[a-z][\w-]*))")
_SHARE = re.compile(r"(?<![\w.,])(\d[\d,]*) of (\d[\d,]*) \(\d[\d.]* %\)")
_PIECE = re.compile(r"(?<=[.;!?])\s+(?=[^\d\s])")
_P_VALUE = re.compile(r"\bp\s*[=<>]\s*[\d.]|\bp unknown|planned [\d,]+\.\d")
_NUMBERS_AFTER = r"(?:,? \([^)]*\)|(?::| [+\-\N{MINUS SIGN}])[^;,]*)"
_STARTS = re.compile(r"(?:^|(?<=[.!?] ))f(?=ewer than \d)")
_FIRST = re.compile(r"First: [^.]*\.")


def safe_words(readout: Readout, screen: Screen) -> Readout:
    """The same readout, with no count of units below the minimum, and no withheld effect, in any sentence."""
    words = _Words(screen, tuple(arm.name for arm in readout.brief.arms))
    safe: Readout = words.of_noun(readout)
    return safe


class _Words:
    """Takes small counts out of sentences of one readout."""

    def __init__(self, screen: Screen, arms: Sequence[str]) -> None:
        self.screen = screen
        named = "|".join(re.escape(arm) for arm in sorted(arms, key=len, reverse=True))
        self.by_arm = re.compile(rf"(?<![\w.,])(\d[\d,]*) '?(?:{named})\b" if named else r"(?!)")
        self.hidden = [
            re.compile(rf"(\b{re.escape(f'{column} {value}')}){_NUMBERS_AFTER}")
            for column, value in sorted(screen.hidden_values)
        ]

    def of_noun(self, noun: Any) -> Any:
        """The same noun with safe sentences; nothing else of it changes."""
        if isinstance(noun, (Brief, Provenance)):
            return noun
        changed: dict[str, object] = {}
        for name in type(noun).model_fields:
            value = getattr(noun, name)
            found = self._of_value(name, value)
            if found is not value:
                changed[name] = found
        safe = noun.model_copy(update=changed) if changed else noun
        return self._check(noun, safe) if isinstance(safe, IntegrityCheck) else safe

    def _of_value(self, name: str, value: object) -> object:
        if isinstance(value, str):
            return self.sentence(value) if name in _SENTENCES else value
        if isinstance(value, Noun):
            return self.of_noun(value)
        if isinstance(value, tuple) and value:
            found = tuple(self._of_value(name, one) for one in value)
            return value if all(a is b for a, b in zip(found, value, strict=True)) else found
        return value

    def sentence(self, text: str) -> str:
        """The text with every piece that tells a small count said without it."""
        for label in self.hidden:
            text = label.sub(rf"\1 ({WITHHELD})", text)
        if not any(character.isdigit() for character in text):
            return text
        pieces = _PIECE.split(text)
        safe = [self._piece(piece) for piece in pieces]
        if None in safe or (safe != pieces and _P_VALUE.search(text)):
            # Arms are counted side by side, groups beside their total, and a p-value tells the counts.
            kept = [piece for piece in pieces if not any(character.isdigit() for character in piece)]
            return " ".join([self._instead(), *kept])
        said = " ".join(piece for piece in safe if piece is not None)
        return text if said == text else said

    def _small_arm(self, piece: str) -> bool:
        return any(self._few(found.group(1)) for found in self.by_arm.finditer(piece))

    def _piece(self, piece: str) -> str | None:
        """A piece without its small counts; None where what is left of it would tell them."""
        if self._small_arm(piece):
            return None
        few = f"fewer than {self.screen.minimum}"
        safe = _SHARE.sub(
            lambda found: f"{few} of {found.group(2)}" if self._few(found.group(1)) else found.group(0), piece
        )

        def single(found: re.Match[str]) -> str:
            after = found.group(2)
            before = piece[: found.start()].rstrip().rpartition(" ")[2].lower()
            if not self._few(found.group(1)) or _not_units(after) or re.fullmatch(_NAMED, before):
                return found.group(0)
            return few

        safe = _SMALL.sub(single, safe)
        return _STARTS.sub(lambda found: found.group(0).upper(), safe) if safe != piece else piece

    def _instead(self) -> str:
        return f"Counts are {WITHHELD}, a cell has fewer than {self.screen.minimum} units."

    def _few(self, number: str) -> bool:
        return 0 < int(number.replace(",", "")) < self.screen.minimum

    def _check(self, raw: IntegrityCheck, safe: IntegrityCheck) -> IntegrityCheck:
        """A check whose numbers and causes give away no more than its evidence does."""
        numbers = {
            name: f"< {self.screen.minimum}" if self._unit_count(name, value) else value
            for name, value in raw.numbers.items()
        }
        arms_hidden = any(name.startswith("n_") and numbers[name] != raw.numbers[name] for name in numbers)
        if arms_hidden:
            numbers = {
                name: value
                for name, value in numbers.items()
                if not name.startswith(("n_", "p_", "statistic")) or isinstance(value, str)
            }
        causes = safe.causes
        if arms_hidden or any(a.evidence != b.evidence for a, b in zip(raw.causes, safe.causes, strict=True)):
            causes = tuple(self._cause(cause) for cause in causes)
        if numbers == raw.numbers and causes == safe.causes:
            return safe
        return safe.model_copy(update={"numbers": numbers, "causes": causes})

    def _cause(self, cause: Cause) -> Cause:
        first = _FIRST.search(cause.evidence)
        said = f"{self._instead()} {first.group(0) if first else ''}".rstrip()
        return cause.model_copy(update={"evidence": said, "share": None})

    def _unit_count(self, name: str, value: float | int | str) -> bool:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < self.screen.minimum:
            return False
        return not _NUMBERS_OF_OTHERS & set(name.split("_"))


def _not_units(word: str) -> bool:
    """Whether a word, in the plural too, is of something else than units."""
    return word in _NOT_UNITS or word.removesuffix("s") in _NOT_UNITS or word.removesuffix("es") in _NOT_UNITS

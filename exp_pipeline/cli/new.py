"""`exp new`: asks what a brief must say, checks every answer at once, and writes the brief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from exp_pipeline.cli.terminal import AsJson, HomeDir, home_of, print_json, say
from exp_pipeline.model.errors import ExpError, Problem

if TYPE_CHECKING:
    from exp_pipeline.analysis.planning.duration import DurationPlan
    from exp_pipeline.catalog import Catalog
    from exp_pipeline.model.brief import Brief
    from exp_pipeline.steps.experiments.draft_questions import Drafting, Question
    from exp_pipeline.store.home import Home

_SHOWN_OFFERS = 30


def new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The experiment's name: lower-case letters, digits, hyphens."),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="BRIEF", help="Begin with another brief: a file, or the name of an experiment."
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=ANSWER", help="Answer a question in advance; may be given several times."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="FILE",
            help="The brief is of your own table (.parquet or .csv): its columns are the metrics.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: take what --from and --set say, and the defaults.")
    ] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Ask what a brief must say, check each answer, tell the size that it needs, and write the brief.

    Without a terminal: --yes with --set title="…" --set primary=… (the keys are told where one is missing),
    or --from a brief.
    """
    from exp_pipeline.catalog.drafts import draft_problems, draft_text
    from exp_pipeline.contracts.table_columns import table_columns
    from exp_pipeline.steps.experiments.draft_questions import Drafting
    from exp_pipeline.steps.opening import open_catalog
    from exp_pipeline.store.files import write_text

    place = home_of(home)
    catalog = open_catalog(place.catalog)
    path = _free_path(place, name)
    context = tuple(
        column.removeprefix("segment__") for column in table_columns("mad") if column.startswith("segment__")
    )
    drafting = Drafting(catalog, datetime.now(UTC).date(), context)
    fields = {**_base(source, catalog), "name": name}
    _check_name(fields, drafting)
    conversation = _Conversation(place, drafting, fields, _answers(given or ()), quiet=yes or as_json)
    if table is not None:
        conversation.hold_of_table(table)
    conversation.hold()
    brief, problems = draft_problems(conversation.fields, catalog, context)
    if brief is None or problems:
        raise ExpError("this brief would not be valid:" + "".join(f"\n  {_told(one)}" for one in problems))
    write_text(path, draft_text(conversation.fields))
    if table is not None and not as_json:
        say(f"\nWrote {path}.\nNext:")
        say("  - read it; shares, covariates and segments of a table: docs/briefs.md, TableMapping")
        say(f"  - `exp analyze {table} --brief {path} --out memo` writes the memo")
        return
    plan = _plan(place, catalog, brief)
    if as_json:
        print_json({"file": str(path), "experiment": name, "plan": None if plan is None else asdict(plan)})
        return
    say(f"\nWrote {path}.")
    if yes:
        for line in _plan_lines(plan, brief):
            say(line)
    say("Next:")
    say(f"  - read it; what was not asked is in docs/briefs.md, then `exp validate --home {place.root}`")
    say(f"  - `exp plan {name}` tells the size, and what keeps it from starting")
    waits = ", ".join(catalog.reviews.needed(brief.risk_class))
    say(f"  - `exp queue` shows the reviews that it waits for ({waits})")


class _Conversation:
    """The questions and answers of one draft; `fields` is the draft so far."""

    def __init__(
        self, home: Home, drafting: Drafting, fields: dict[str, Any], given: dict[str, str], *, quiet: bool
    ) -> None:
        self.home, self.drafting = home, drafting
        self.fields, self.given, self.quiet = fields, given, quiet
        self.used: set[str] = set()
        self.missing: list[Question] = []
        self.wrong: list[str] = []
        self.seen: set[str] = set()
        # Columns of a table make a brief only together, so they are judged when all are named.
        self.judged = True

    def hold_of_table(self, path: Path) -> None:
        """Ask which columns hold what, and take from the table what it tells: arms, days, the primary.

        Raises ExpError with all that is missing or wrong.
        """
        from exp_pipeline.cli.tables import read_table
        from exp_pipeline.steps.experiments.draft_tables import fields_of_table, table_questions

        frame = read_table(path)
        self.judged = False
        for question in table_questions(frame, lambda: self.fields):
            self._put(question)
        if not self.wrong and not self.missing:
            try:
                self.fields = fields_of_table(self.fields, frame)
            except ValueError as fault:
                self.wrong.append(f"--table {path}: {fault}")
        self._raise_if_unanswered()
        self.judged = True

    def hold(self) -> None:
        """Ask every question. Raises ExpError with all that is missing or wrong, where it may not."""
        from exp_pipeline.steps.experiments.draft_questions import questions

        for question in questions(self.drafting, self._so_far):
            self._put(question)
        unknown = sorted(set(self.given) - self.used)
        if unknown:
            self.wrong.append(f"--set {unknown[0]}: there is no such question")
        self._raise_if_unanswered()

    def _put(self, question: Question) -> None:
        """Put one question: to what was given, to the defaults, or to the person."""
        if question.key in self.given:
            self._take_given(question)
        elif self.quiet:
            self._take_default(question)
        else:
            self._ask(question)

    def _raise_if_unanswered(self) -> None:
        if self.wrong or self.missing:
            asked = [f"--set {one.key}=…: {one.ask}. {one.explain}" for one in self.missing]
            raise ExpError(
                "the brief was not written:" + "".join(f"\n  {one}" for one in [*self.wrong, *asked])
            )

    def _so_far(self) -> dict[str, Any]:
        """The draft with stand-ins for what later questions need of earlier ones that were not answered."""
        from exp_pipeline.steps.experiments.draft_questions import filled_up

        return filled_up(self.fields, self.drafting)

    def _take_given(self, question: Question) -> None:
        self.used.add(question.key)
        answer = self.given[question.key]
        for fault in self._take(question, answer):
            self.wrong.append(f"--set {question.key}={answer}: {fault}")

    def _take_default(self, question: Question) -> None:
        proposed = question.proposed(self.fields)
        if proposed is None:
            self.missing.append(question)
        elif not question.judgement and not question.is_there(self.fields):
            for fault in self._take(question, proposed):
                self.wrong.append(f"{question.key}: {fault}")

    def _ask(self, question: Question) -> None:
        say(f"\n{question.ask}: {question.explain}")
        for line in self._offers(question):
            say(f"  {line}")
        while True:
            proposed = question.proposed(self.fields)
            answer = str(typer.prompt("", default=proposed, type=str, prompt_suffix="> ")).strip()
            if answer == proposed and question.is_there(self.fields):
                break
            faults = self._take(question, answer)
            if not faults:
                break
            for fault in faults:
                say(f"  {fault}")
        if question.key == "mde":
            self._tell_size()

    def _offers(self, question: Question) -> list[str]:
        """What may be answered; long lists only where they were not shown before."""
        listed = [f"{name}: {title}" if title else name for name, title in question.offer.items()]
        new = set(question.offer) - self.seen
        self.seen |= set(question.offer)
        if listed and not new:
            return ["(names as above)"]
        if len(listed) <= _SHOWN_OFFERS:
            return listed
        return [*listed[:_SHOWN_OFFERS], f"… and {len(listed) - _SHOWN_OFFERS} more (exp metrics)"]

    def _take(self, question: Question, answer: str) -> list[str]:
        """Keep an answer, or tell what is wrong with it."""
        from exp_pipeline.steps.experiments.draft_questions import problems_of

        try:
            after = question.answered(self.fields, answer)
        except ValueError as fault:
            return [str(fault)]
        if question.offer and not question.optional and isinstance(question.read(answer), str):
            unknown = question.not_offered(answer)
            if unknown:
                return [unknown]
        problems = problems_of(self.fields, after, self.drafting) if self.judged else []
        if problems:
            return [_told(one) for one in problems]
        self.fields = after
        return []

    def _tell_size(self) -> None:
        """What history says of the size, as soon as the effect is known."""
        from exp_pipeline.catalog.drafts import draft_problems

        if "table" in self.fields:
            return
        brief, _ = draft_problems(self._so_far(), self.drafting.catalog, self.drafting.context)
        if brief is not None:
            for line in _plan_lines(_plan(self.home, self.drafting.catalog, brief), brief):
                say(f"  {line}")


def _answers(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        key, equals, answer = one.partition("=")
        if not equals:
            raise ExpError(f"--set {one}: write KEY=ANSWER, such as --set primary=mastery_loop_completion")
        if key.strip() in found:
            raise ExpError(f"--set {key.strip()} is given twice")
        found[key.strip()] = answer.strip()
    return found


def _free_path(home: Home, name: str) -> Path:
    folder = home.catalog / "experiments"
    for suffix in (".yaml", ".yml"):
        if (folder / f"{name}{suffix}").exists() and "/" not in name:
            raise ExpError(f"{folder / (name + suffix)} is there already; `exp new` overwrites nothing")
    return folder / f"{name}.yaml"


def _check_name(fields: Mapping[str, Any], drafting: Drafting) -> None:
    from exp_pipeline.steps.experiments.draft_questions import problems_of

    wrong = [one for one in problems_of({}, {"name": fields["name"]}, drafting) if one.field == "name"]
    if wrong:
        raise ExpError(f"NAME {fields['name']!r} {wrong[0].message}; allowed: {wrong[0].allowed}")
    if fields["name"] in drafting.catalog.briefs:
        raise ExpError(f"there is a brief named {fields['name']} already; `exp new` overwrites nothing")


def _base(source: str | None, catalog: Catalog) -> dict[str, Any]:
    """The fields of the brief that one begins with; reviews were of that one and are not taken along."""
    from exp_pipeline.catalog.documents import read_document

    if source is None:
        return {}
    path = catalog.files.get(source, Path(source))
    document = read_document(path, file=str(path))
    if isinstance(document, Problem):
        raise ExpError(f"--from {source}: {document.message}")
    if not isinstance(document.data, dict):
        raise ExpError(f"--from {source}: {path} holds no brief")
    left = ("reviews", "version")
    return {str(key): value for key, value in document.data.items() if key not in left}


def _told(problem: Problem) -> str:
    value = f" (got {problem.value})" if problem.value else ""
    allowed = f"; allowed: {problem.allowed}" if problem.allowed else ""
    return f"{problem.field}: {problem.message}{value}{allowed}"


def _plan(home: Home, catalog: Catalog, brief: Brief) -> DurationPlan | None:
    """What size history asks for; None where it tells nothing."""
    from exp_pipeline.cli.runs import open_bench
    from exp_pipeline.steps.experiments.planning import plan_of_draft
    from exp_pipeline.store.lake import Lake

    if brief.table is not None or not Lake(home.lake).partitions("learner_days"):
        return None
    with open_bench(home, catalog) as bench:
        return plan_of_draft(bench, brief)


def _plan_lines(plan: DurationPlan | None, brief: Brief) -> list[str]:
    if plan is None:
        return ["There is no history to tell the size from yet."]
    lines = [
        f"To find {plan.mde:.4g}, {plan.units_per_arm:,} units an arm are needed: {plan.units_total:,} units."
    ]
    if plan.units_at_end is not None:
        lines.append(f"By {brief.end}, {plan.units_at_end:,} will be counted, as arrivals were.")
    if plan.mde_at_end is not None:
        lines.append(f"By then an effect of {plan.mde_at_end:.4g} could be found.")
    return lines

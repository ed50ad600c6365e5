"""Each kind of mistake in a catalog, with the exact words an author reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from exp_pipeline_tests.catalog.folders import BRIEF, METRICS, SOURCE, lines_of, problems_of, write_catalog

HERE = "experiments/quick-hints.yaml"
NAMES = "lines of `name: value`"

BRIEF_MISTAKES = {
    "unknown metric": (
        "primary: accuracy",
        "primary: acuracy",
        "18: primary: unknown metric; did you mean `accuracy`? (value: acuracy); allowed: "
        "accuracy, minutes, waiting",
    ),
    "unknown guardrail, nothing near": (
        "metric: minutes",
        "metric: zzz",
        "21: guardrails[0].metric: unknown metric (value: zzz); allowed: accuracy, minutes, waiting",
    ),
    "typo in a field": (
        "margin_kind",
        "margin_knd",
        "23: guardrails[0].margin_knd: is not a field; did you mean `margin_kind` or `margin`? "
        "(value: relative); "
        "allowed: basis, kill, margin, margin_kind, metric",
    ),
    "wrong choice": (
        "relative",
        "relativ",
        "23: guardrails[0].margin_kind: is not one of the choices; did you mean `relative`? "
        "(value: relativ); "
        "allowed: absolute, relative",
    ),
    "key given twice": (
        "    margin: 0.1",
        "    margin: 0.1\n    margin: 0.2",
        "23: guardrails[0].margin: is given twice; first on line 22",
    ),
    "shares below one": (
        "{name: short, share: 0.5}",
        "{name: short, share: 0.4}",
        "12: arms: arm shares must add up to 1, they add up to 0.9",
    ),
    "share above one": (
        "{name: short, share: 0.5}",
        "{name: short, share: 1.4}",
        "14: arms[1].share: is out of range (value: 1.4); allowed: more than 0 and at most 1",
    ),
    "no such day": (
        "end: 2026-03-30",
        "end: 2026-02-30",
        "17: end: is not a day (value: 2026-02-30); allowed: a day written YYYY-MM-DD",
    ),
    "a word for a day": (
        "end: 2026-03-30",
        "end: soon",
        "17: end: is not a day (value: soon); allowed: a day written YYYY-MM-DD",
    ),
    "end before start": (
        "end: 2026-03-30",
        "end: 2026-03-09",
        "17: end: end 2026-03-09 must come after start 2026-03-09 (the end day is excluded) "
        "(value: 2026-03-09)",
    ),
    "tab": (
        "    margin: 0.1",
        "\tmargin: 0.1",
        "22: (file): is indented with a tab; YAML wants spaces",
    ),
    "tag": (
        "title: Quick hints",
        "title: !!python/object/apply:os.system [ls]",
        "2: title: has a tag; only plain YAML is read (value: "
        "tag:yaml.org,2002:python/object/apply:os.system)",
    ),
    "merge key": (
        "title: Quick hints",
        "<<: {title: Quick hints}",
        "2: <<: merge keys are not read; write the fields out",
    ),
    "bad name": (
        "name: quick-hints",
        "name: Quick Hints",
        "1: name: is not a valid name (value: Quick Hints); "
        "allowed: lower-case letters, digits and hyphens, at most 63",
    ),
    "name unlike the file's": (
        "name: quick-hints",
        "name: slow-hints",
        "1: name: differs from the file's name `quick-hints.yaml` (value: slow-hints); allowed: quick-hints",
    ),
    "missing": ("owner: learning\n", "", "1: owner: is required and missing; allowed: text"),
    "empty": ("owner: learning\n", "owner:\n", "10: owner: is empty; give a value; allowed: text"),
    "number for text": (
        "owner: learning",
        "owner: 7",
        "10: owner: must be text (value: 7); allowed: text; put numbers and true/false in quotes",
    ),
    "text for a number": (
        "margin: 0.1",
        'margin: "0.1"',
        '22: guardrails[0].margin: must be a number (value: "0.1"); allowed: a number',
    ),
    "below the range": (
        "margin: 0.1",
        "margin: -0.1",
        "22: guardrails[0].margin: is out of range (value: -0.1); allowed: more than 0",
    ),
    "both ends of a range": (
        "control: control",
        "control: control\nalpha: 0.7",
        "16: alpha: is out of range (value: 0.7); allowed: more than 0 and less than 0.5",
    ),
    "two kinds of effect": (
        "{absolute: 0.05}",
        "{absolute: 0.05, relative: 0.1}",
        "24: mde.absolute: give exactly one of absolute or relative (value: 0.05)",
    ),
    "number for a mapping": (
        "{absolute: 0.05}",
        "0.05",
        "24: mde: must be a mapping (value: 0.05); allowed: lines of `name: value`",
    ),
    "metric with two roles": (
        "[waiting]",
        "[waiting, minutes]",
        "21: guardrails[0].metric: each metric has one role; named twice: minutes (value: minutes)",
    ),
    "control is no arm": (
        "control: control",
        "control: controll",
        "15: control: control 'controll' is not one of the arms: control, short (value: controll)",
    ),
    "one arm": (
        "  - {name: short, share: 0.5}\n",
        "",
        "12: arms: has too few entries; allowed: at least 2",
    ),
    "unknown covariate": (
        "[right_answers]",
        "[right_answer]",
        "26: variance_reduction.covariates[0]: unknown measure; did you mean `right_answers` or `answers`? "
        "(value: right_answer); allowed: answers, latency, minutes_spent, right_answers",
    ),
    "looks out of order": (
        "primary: accuracy",
        "looks: [2026-03-20, 2026-03-15]\nprimary: accuracy",
        "18: looks[1]: must come after the look before it, 2026-03-20 (value: 2026-03-15)",
    ),
    "blackout day outside": (
        "primary: accuracy",
        "blackout_days: [2026-04-01]\nprimary: accuracy",
        "18: blackout_days[0]: lies outside the experiment (value: 2026-04-01); "
        "allowed: from 2026-03-09 to the day before 2026-03-30",
    ),
    "ramp that falls": (
        "primary: accuracy",
        "ramp: [{traffic: 0.5}, {traffic: 0.25}, {traffic: 1.0}]\nprimary: accuracy",
        "18: ramp[1].traffic: must be more than the stage before it, 0.5 (value: 0.25)",
    ),
    "depth": (
        "[waiting]",
        "[" * 40 + "]" * 40,
        "19: secondary" + "[0]" * 15 + ": is nested too deeply; allowed: at most 16 levels",
    ),
    "alias without an anchor": (
        "[waiting]",
        "[*waiting]",
        "19: secondary[0]: is an alias without an anchor (value: *waiting); allowed: none is declared",
    ),
    "two documents": (
        "name: quick-hints\n",
        "a: 1\n---\nname: quick-hints\n",
        "2: (file): holds a second YAML document; one file is one document",
    ),
}


@pytest.mark.parametrize("mistake", BRIEF_MISTAKES)
def test_a_mistake_in_a_brief_is_named_with_its_line(tmp_path: Path, mistake: str) -> None:
    right, wrong, expected = BRIEF_MISTAKES[mistake]
    assert right in BRIEF
    root = write_catalog(tmp_path, **{"experiments__quick-hints": BRIEF.replace(right, wrong)})
    assert lines_of(root) == [f"{HERE}:{expected}"]


METRIC_MISTAKES = {
    "wrong type": (
        "type: ratio",
        "type: ration",
        "24: metrics[0].type: is not one of the choices; did you mean `ratio` or "
        "`retention` or `proportion`? (value: ration); allowed: composite, cost_per_outcome, count_rate, "
        "first_time_to, funnel, gain, mean, proportion, quantile, ratio, retention",
    ),
    "ratio without denominator": (
        "    denominator: answers\n",
        "",
        "24: metrics[0].type: type ratio needs a denominator measure (value: ratio)",
    ),
    "unknown measure": (
        "numerator: right_answers",
        "numerator: right_answer",
        "25: metrics[0].numerator: unknown measure; did you mean `right_answers` or `answers`? "
        "(value: right_answer); allowed: answers, latency, minutes_spent, right_answers",
    ),
    "unknown counter-metric": (
        "counter_metric: minutes",
        "counter_metric: minute",
        "29: metrics[0].counter_metric: unknown metric; did you mean `minutes`? (value: minute); "
        "allowed: accuracy, minutes, waiting",
    ),
    "unknown event": (
        "events: [answer_attempted]\n    where",
        "events: [answer_attemptd]\n    where",
        "7: measures[1].events[0]: unknown event; did you mean `answer_attempted`? (value: answer_attemptd); "
        "allowed: answer_attempted, tutor_turn_response_shown",
    ),
    "quantile of a count": (
        "numerator: latency",
        "numerator: answers",
        "36: metrics[1].numerator: type quantile cannot be made of answers, with aggregate "
        "count (value: answers); "
        "allowed: measures with aggregate values, histogram",
    ),
    "aggregate without a column": (
        "    aggregate: sum\n    of: minutes\n",
        "    aggregate: sum\n",
        "17: measures[3].aggregate: aggregate sum needs `of`: the column or expression it "
        "aggregates (value: sum)",
    ),
    "own counter-metric": (
        "counter_metric: minutes",
        "counter_metric: accuracy",
        "29: metrics[0].counter_metric: a metric cannot be its own counter-metric (value: accuracy)",
    ),
}


@pytest.mark.parametrize("mistake", METRIC_MISTAKES)
def test_a_mistake_in_a_metric_is_named_once_with_its_line(tmp_path: Path, mistake: str) -> None:
    right, wrong, expected = METRIC_MISTAKES[mistake]
    assert right in METRICS
    root = write_catalog(tmp_path, metrics__all=METRICS.replace(right, wrong))
    assert lines_of(root) == [f"metrics/all.yaml:{expected}"]


SOURCE_MISTAKES = {
    "outside the landing folder": (
        "received_date=*/foreign/*.csv",
        "../foreign/*.csv",
        "2: files: points outside the landing folder (value: ../foreign/*.csv); "
        "allowed: a glob below the landing folder, such as received_date=*/tutor/*.ndjson*",
    ),
    "a URL": (
        "received_date=*/foreign/*.csv",
        "s3://bucket/*.csv",
        "2: files: is a URL, and files are read from the landing folder only (value: s3://bucket/*.csv); "
        "allowed: a glob below the landing folder, such as received_date=*/tutor/*.ndjson*",
    ),
    "a path that no landing file has": (
        "received_date=*/foreign/*.csv",
        "foreign/*.csv",
        "2: files: matches no landing file: their paths begin with received_date=YYYY-MM-DD/ "
        "(value: foreign/*.csv); allowed: such as received_date=*/foreign/*.csv",
    ),
    "a word for a switch": (
        "format: csv",
        "format: csv\nidentity: no",
        "4: identity: must be true or false (value: no); allowed: true, false",
    ),
    "maps and does not": (
        "format: csv",
        "format: csv\nidentity: true",
        "4: identity: a source with identity: true maps nothing; leave out `fields` and "
        "`events` (value: true)",
    ),
    "a word for a name": (
        "format: csv",
        "format: csv\nevent_name: right",
        "4: event_name: event_name and event_names belong together: the expression that gives the "
        "producer's name, and our event for each of its values (value: right)",
    ),
    "how a CSV file is written, of another format": (
        "format: csv",
        "format: ndjson\ncsv: {delimiter: ;}",
        "4: csv: csv is for format: csv, and this source has format ndjson",
    ),
    "a field filled twice": (
        "fields:\n  learner_id",
        "constants: {learner_id: x}\nfields:\n  learner_id",
        "8: constants: constants and fields both fill: learner_id",
    ),
    "a CSV without names": (
        "format: csv",
        "format: csv\ncsv: {header: false}",
        "4: csv.header: header: false leaves the columns without names; list the names instead "
        "(value: false)",
    ),
}


@pytest.mark.parametrize("mistake", SOURCE_MISTAKES)
def test_a_mistake_in_a_source_is_named_with_its_line(tmp_path: Path, mistake: str) -> None:
    right, wrong, expected = SOURCE_MISTAKES[mistake]
    assert right in SOURCE
    root = write_catalog(tmp_path, sources__foreign=SOURCE.replace(right, wrong))
    assert lines_of(root) == [f"sources/foreign.yaml:{expected}"]


def test_all_problems_of_all_files_are_listed_at_once(tmp_path: Path) -> None:
    brief = (
        BRIEF.replace("margin_kind", "margin_knd")
        .replace("share: 0.5}", "share: 0.4}")
        .replace("[waiting]", "[wait]")
    )
    root = write_catalog(
        tmp_path,
        **{"experiments__quick-hints": brief},
        metrics__all=METRICS.replace("quantile: 0.95", "quantile: 95"),
        policies__default="session: {gap_minutes: 0}\n",
    )
    assert [(one.file.removeprefix(f"{root}/"), one.line, one.field) for one in problems_of(root)] == [
        (HERE, 12, "arms"),
        (HERE, 19, "secondary[0]"),
        (HERE, 23, "guardrails[0].margin_knd"),
        ("metrics/all.yaml", 35, "metrics[1].quantile"),
        ("policies/default.yaml", 1, "session.gap_minutes"),
    ]


def test_two_experiments_with_one_name(tmp_path: Path) -> None:
    root = write_catalog(tmp_path, experiments__other=BRIEF)
    assert lines_of(root) == [
        f"experiments/other.yaml:1: name: another brief has this name: {HERE}:1 (value: quick-hints)",
        "experiments/other.yaml:1: name: differs from the file's name `other.yaml` (value: "
        "quick-hints); allowed: other",
    ]


def test_two_metrics_with_one_name(tmp_path: Path) -> None:
    root = write_catalog(tmp_path, metrics__more="metrics:\n" + METRICS.partition("metrics:\n")[2])
    assert lines_of(root)[0] == (
        "metrics/more.yaml:2: metrics[0].name: another metric has this name: "
        "metrics/all.yaml:20 (value: accuracy)"
    )
    assert len(lines_of(root)) == 3


def test_policies_are_one_file(tmp_path: Path) -> None:
    root = write_catalog(tmp_path, policies__other="time: {}\n")
    assert lines_of(root) == [
        "policies/other.yaml:1: (file): policies are one file, and policies/default.yaml is there already"
    ]


@pytest.mark.parametrize(
    ("text", "said"), [("", "is empty"), ("- a\n", "must be a mapping"), ("7\n", "must be a mapping")]
)
def test_a_brief_that_is_no_mapping(tmp_path: Path, text: str, said: str) -> None:
    root = write_catalog(tmp_path, **{"experiments__quick-hints": text})
    [problem] = problems_of(root)
    assert (problem.message, problem.line) == (said, 1)
    assert problem.allowed.startswith(f"{NAMES} with name, title, hypothesis")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    [problem] = problems_of(tmp_path / "nowhere")
    assert problem.message == "there is no catalog folder here"

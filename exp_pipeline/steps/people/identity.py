"""Who is who over time: links from newer pseudonyms to first ones, and the erased.

Links and tombstones cannot be made again from the landing folder once a key is gone, so they live with the
state, not in the lake. Both hold pseudonyms (or hashes of them) only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

import polars as pl
from sqlglot import exp

from exp_pipeline.model.errors import ExpError
from exp_pipeline.steps.context import Workbench, received_day
from exp_pipeline.steps.people.identity_keys import admit, known_keys
from exp_pipeline.store.engine import Rows, quote
from exp_pipeline.store.files import one_at_a_time
from exp_pipeline.store.lake import Lake, NewFile
from exp_pipeline.store.landing import LandingFile
from exp_pipeline.transform.identity import PSEUDONYM, IdentityKey, pseudonyms, tombstone
from exp_pipeline.transform.queries import query_text

ALL = "scope=all"
LINKS, ERASED = "identity_links", "erased"
# A row is a person's where one of these columns names them; elsewhere only the mention is taken out.
OWN_COLUMNS = ("learner_id", "unit_id")
_TEXT, _DAY = pl.String(), pl.Date()
_SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    LINKS: {
        "pseudonym": _TEXT,
        "key_id": _TEXT,
        "first_pseudonym": _TEXT,
        "first_key_id": _TEXT,
        "received_date": _DAY,
    },
    ERASED: {"tombstone": _TEXT},
}
_ANEW = query_text(pseudonyms(exp.select("raw_id").from_("identities")))


def _lake(bench: Workbench) -> Lake:
    return Lake(bench.home.state / "identity")


def _read(bench: Workbench, table: str) -> pl.DataFrame:
    manifest = _lake(bench).manifest(table, ALL)
    if manifest is None or not manifest.files:
        return pl.DataFrame(schema=_SCHEMAS[table])
    return pl.concat([pl.read_parquet(path) for path in _lake(bench).paths([manifest])])


def _write(bench: Workbench, table: str, rows: pl.DataFrame) -> None:
    path = _lake(bench).staging(table, ALL)
    try:
        rows.write_parquet(path, compression="zstd")
        file = NewFile(path, "all", rows.height)
        _lake(bench).commit(table, ALL, [file], schema_version="1", run_id=bench.run_id)
    finally:
        path.unlink(missing_ok=True)


def identity_rows(bench: Workbench, table: str) -> pl.DataFrame:
    """The rows of `identity_links` or of `erased`, none where nothing was written.

    A link says that `pseudonym` (made with `key_id`) and `first_pseudonym` (with `first_key_id`) are one
    person's; tables carry the first. `erased` holds one tombstone a pseudonym.
    """
    folder = _lake(bench).root / table
    if not folder.is_dir():
        return pl.DataFrame(schema=_SCHEMAS[table])
    with one_at_a_time(folder):
        return _read(bench, table)


def add_links(bench: Workbench, new: pl.DataFrame) -> None:
    """Add links; of two for one pseudonym the one there first stays, with the earlier day."""
    folder = _lake(bench).root / LINKS
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder):
        both = pl.concat([_read(bench, LINKS), new.select(*_SCHEMAS[LINKS])])
        rows = both.group_by("key_id", "pseudonym", maintain_order=True).agg(
            pl.col("first_pseudonym", "first_key_id").first(), pl.col("received_date").min()
        )
        # The first of a link may have got a first of its own since: every link leads to the end.
        for _ in range(rows["key_id"].n_unique()):
            ends = rows.select(
                pl.col("pseudonym").alias("first_pseudonym"),
                pl.col("first_pseudonym").alias("end"),
                pl.col("first_key_id").alias("end_key"),
            ).unique("first_pseudonym")
            rows = (
                rows.join(ends, on="first_pseudonym", how="left")
                .with_columns(
                    pl.coalesce("end", "first_pseudonym").alias("first_pseudonym"),
                    pl.coalesce("end_key", "first_key_id").alias("first_key_id"),
                )
                .drop("end", "end_key")
            )
        _write(bench, LINKS, rows.select(*_SCHEMAS[LINKS]).sort("key_id", "pseudonym"))


def add_erased(bench: Workbench, people: Iterable[str]) -> None:
    """Add a tombstone for each pseudonym."""
    folder = _lake(bench).root / ERASED
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder):
        known = set(_read(bench, ERASED)["tombstone"])
        everyone = sorted(known | {tombstone(one) for one in people})
        if len(everyone) > len(known):
            _write(bench, ERASED, pl.DataFrame({"tombstone": everyone}, schema=_SCHEMAS[ERASED]))


def forget_links(bench: Workbench, people: Iterable[str]) -> int:
    """Take out every link that names one of the pseudonyms, old files included; returns how many."""
    folder = _lake(bench).root / LINKS
    if not folder.is_dir():
        return 0
    named = list(people)
    with one_at_a_time(folder):
        rows = _read(bench, LINKS)
        kept = rows.filter(~(pl.col("pseudonym").is_in(named) | pl.col("first_pseudonym").is_in(named)))
        if kept.height < rows.height:
            _write(bench, LINKS, kept)
    _lake(bench).purge(LINKS, ALL)
    return rows.height - kept.height


def pseudonyms_of(bench: Workbench, people: Sequence[str]) -> list[str]:
    """Every pseudonym that people (raw ids, or pseudonyms of 32 hex digits) may have in any table.

    Raises ExpError where a raw id is given and no key is set.
    """
    if not people:
        return []
    keys = (bench.key, *bench.newer_keys) if bench.key is not None else ()
    found = {one for one in people if PSEUDONYM.fullmatch(one)}
    raw = [one for one in people if not PSEUDONYM.fullmatch(one)]
    if raw and not keys:
        raise ExpError("people are named by id: set EXP_HMAC_KEY, so that they are found")
    found |= {key.pseudonym(one) for one in raw for key in keys}
    links = identity_rows(bench, LINKS)
    named = pl.col("pseudonym").is_in(sorted(found)) | pl.col("first_pseudonym").is_in(sorted(found))
    firsts = sorted(found | set(links.filter(named)["first_pseudonym"]))
    return sorted({*firsts, *links.filter(pl.col("first_pseudonym").is_in(firsts))["pseudonym"]})


def name_people(bench: Workbench, files: Sequence[LandingFile], query: str) -> None:
    """Give every raw id of table `typed` its pseudonym in table `identities` (raw_id, pseudonym, id_key).

    `files` are those of one received day whose rows `typed` holds. `query` makes pseudonyms with the key in
    force (parameters inner_pad, outer_pad). Who was linked to a first pseudonym gets that one; while newer
    keys are set beside it, links to theirs are kept for the time after.
    Rows of erased people lose everything but their place, with reason `erased`. Raises ExpError as `admit`
    does, and where a file that landed under a key now gone holds people without a link.
    """
    keys = admit(bench)
    engine = bench.engine
    engine.build("identities", query, keys[0].pads())
    links, erased = identity_rows(bench, LINKS), identity_rows(bench, ERASED)
    if len(known_keys(bench.home)) == 1 and links.is_empty() and erased.is_empty():
        return
    engine.offer_frame("links_here", links.filter(pl.col("key_id") == keys[0].key_id))
    engine.build(
        "identities",
        "select i.raw_id, i.pseudonym as own_pseudonym, "
        "coalesce(l.first_pseudonym, i.pseudonym) as pseudonym, "
        "cast('0x' || left(coalesce(l.first_pseudonym, i.pseudonym), 16) as ubigint) as id_key, "
        "l.first_key_id from identities as i left join links_here as l on i.pseudonym = l.pseudonym",
    )
    for key in keys[1:]:
        engine.build(_newer(key), _ANEW, key.pads())
    if not erased.is_empty():
        _bury(bench, keys[1:], erased)
    _refuse_if_split(bench, keys, files)
    for key in keys[1:]:
        _link(bench, keys[0], key, links, files[0].received)
        engine.drop(_newer(key))
    engine.drop("links_here")


def _newer(key: IdentityKey) -> str:
    return f"identities_{key.fingerprint}"


def _link(
    bench: Workbench, first: IdentityKey, key: IdentityKey, links: pl.DataFrame, received: date
) -> None:
    new = bench.engine.frame(
        f"select n.pseudonym, $key_id as key_id, i.pseudonym as first_pseudonym, "
        f"coalesce(i.first_key_id, $first_key_id) as first_key_id, cast($received as date) as received_date "
        f"from {quote(_newer(key))} as n inner join identities as i on n.raw_id = i.raw_id",
        {"key_id": key.key_id, "first_key_id": first.key_id, "received": received},
    )
    # A day that lands later may be an earlier day.
    known = links.filter((pl.col("key_id") == key.key_id) & (pl.col("received_date") <= received))
    new = new.join(known, on=["pseudonym", "first_pseudonym"], how="anti")
    if not new.is_empty():
        add_links(bench, new)


def _refuse_if_split(bench: Workbench, keys: Sequence[IdentityKey], files: Sequence[LandingFile]) -> None:
    """Stop where a file that landed under a key now gone would give its people new pseudonyms."""
    here = {key.key_id for key in keys}
    known = known_keys(bench.home).values()
    gone = [one.key_id for one in known if one.standing == "retired" and one.key_id not in here]
    manifest = bench.lake.manifest("landed", received_day(files[0].received)) if gone else None
    if manifest is None:
        return
    bench.engine.offer(
        "landed_before", Rows(bench.lake.paths([manifest]), {"file": "VARCHAR", "key_id": "VARCHAR"})
    )
    before = bench.engine.connection.execute(
        "select distinct key_id from landed_before "
        "where list_contains($files, file) and list_contains($gone, key_id) order by key_id",
        {"files": [file.short_name for file in files], "gone": gone},
    ).fetchall()
    (unlinked,) = bench.engine.row("select count(*) from identities where first_key_id is null")
    if before and unlinked:
        name = before[-1][0]
        named = ", ".join(file.relative for file in files[:3])
        raise ExpError(
            f"{named} landed under identity key {name}, which is not set any more, and {unlinked} of its ids "
            "were not met while both keys were set: landed again they would become other people. Set that "
            "key as EXP_HMAC_KEY_PREVIOUS and run `exp keys link`; if it is lost for good, say so with "
            f"`exp keys lost {name}`"
        )


def _bury(bench: Workbench, newer: Sequence[IdentityKey], erased: pl.DataFrame) -> None:
    """Empty the rows of erased people, forget their ids, carry their tombstones to newer keys."""
    engine = bench.engine
    engine.offer_frame("tombstones", erased)
    engine.build(
        "all_names",
        "select raw_id, pseudonym from identities union select raw_id, own_pseudonym from identities",
    )
    for key in newer:
        engine.connection.execute(f"insert into all_names select raw_id, pseudonym from {quote(_newer(key))}")
    engine.build(
        "erased_ids",
        "select distinct raw_id from all_names "
        "where sha256('erased:' || pseudonym) in (select tombstone from tombstones)",
    )
    found = engine.connection.execute(
        "select distinct pseudonym from all_names where raw_id in (select raw_id from erased_ids)"
    ).fetchall()
    if found:
        add_erased(bench, [str(row[0]) for row in found])
        _empty_rows(bench)
        engine.connection.execute("delete from identities where raw_id in (select raw_id from erased_ids)")
    for name in ("tombstones", "all_names", "erased_ids"):
        engine.drop(name)


def _empty_rows(bench: Workbench) -> None:
    connection = bench.engine.connection
    columns = [str(row[0]) for row in connection.execute("describe typed").fetchall()]
    kept = ("part", "row_number", "byte_offset", "reason")
    emptied = ", ".join(f"{quote(name)} = null" for name in columns if name not in kept)
    theirs = " or ".join(
        f"{quote(name)} in (select raw_id from erased_ids)" for name in OWN_COLUMNS if name in columns
    )
    connection.execute(f"update typed set {emptied}, reason = 'erased' where {theirs}")
    for name in (name for name in bench.shape().identifiers if name in columns):
        connection.execute(
            f"update typed set {quote(name)} = null where {quote(name)} in (select raw_id from erased_ids)"
        )

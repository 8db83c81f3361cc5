"""What Redshift refuses, or does otherwise than DuckDB and PostgreSQL without a word: found in SQL that was compiled.

A statement is parsed and its tree walked, for a parser of Redshift's dialect takes most of this as it comes. The rules
are of the warehouse's documentation; without a cluster they are the only reader of the SQL that Redshift will run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType  # type: ignore[attr-defined]

_FORBIDDEN_FUNCTIONS = """
    age approx_count_distinct approx_quantile arg_max arg_min array_agg array_length arrayjoin concat_ws count_if
    date_bin epoch epoch_ms epoch_us generate_series generate_subscripts jsonb_build_object list_aggregate list_filter
    list_transform localtime localtimestamp make_date make_timestamp max_by median_cont min_by mode now quantile_cont
    quantile_disc range regexp_matches row_to_json statement_timestamp strftime string_agg string_to_array strptime
    timezone to_json to_jsonb transaction_timestamp try_cast try_strptime unnest
"""
_RESERVED = """
    aes128 aes256 all allowoverwrite analyse analyze and any array as asc authorization az64 backup between binary
    blanksasnull both bytedict bzip2 case cast check collate column constraint create credentials cross current_date
    current_time current_timestamp current_user current_user_id default deferrable deflate defrag delta delta32k desc
    disable distinct do else emptyasnull enable encode encrypt encryption end except explicit false for foreign freeze
    from full globaldict256 globaldict64k grant group gzip having identity ignore ilike in initially inner intersect
    interval into is isnull join leading left like limit localtime localtimestamp lun luns lzo lzop minus mostly16
    mostly32 mostly8 natural new not notnull null nulls off offline offset oid old on only open or order outer overlaps
    parallel partition percent permissions pivot placing primary raw readratio recover references rejectlog resort
    respect restore right select session_user similar snapshot some sysdate system table tag tdes text255 text32k then
    timestamp to top trailing true truncatecolumns union unique unnest unpivot user using verbose wallet when where
    with without
"""
_FORBIDDEN_TYPES = {
    exp.DataType.Type.JSON,
    exp.DataType.Type.JSONB,
    exp.DataType.Type.UUID,
    exp.DataType.Type.ARRAY,
    exp.DataType.Type.LIST,
    exp.DataType.Type.STRUCT,
    exp.DataType.Type.MAP,
    exp.DataType.Type.VARBINARY,
}
_FRACTIONAL = {exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT, exp.DataType.Type.DECIMAL}
_WANTS_NO_FRAME = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile, exp.PercentRank, exp.CumeDist, exp.Lag, exp.Lead)


def findings(sql: str) -> list[str]:
    """What Redshift would refuse or misread in one statement, a line each; none where all is well."""
    found = list(_by_token(sql))
    try:
        tree = sqlglot.parse_one(sql, dialect="postgres")
    except sqlglot.ParseError as error:
        return [*found, f"it cannot be parsed: {str(error).splitlines()[0]}"]
    for node in tree.walk():
        for wrong, rule in _RULES:
            if wrong(node):
                found.append(f"{rule}: {node.sql(dialect='postgres')[:100]}")
    return found


def _by_token(sql: str) -> Iterator[str]:
    """Names that a parser translates or swallows."""
    tokens = sqlglot.tokenize(sql, dialect="postgres")
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        name = token.text.lower()
        called = following is not None and following.token_type == TokenType.L_PAREN
        if called and name in _FORBIDDEN_FUNCTIONS.split() and token.token_type != TokenType.STRING:
            yield f"function that Redshift has not, or on its leader node only: {name}()"
    text = re.sub(r"'(?:[^']|'')*'", "''", sql)
    for word, rule in (
        (r"\bgroup\s+by\s+all\b", "GROUP BY ALL is not PostgreSQL's"),
        (r"\bas\s+(not\s+)?materialized\b", "MATERIALIZED"),
        (r"\basof\s+", "ASOF join"),
        (r"\bfetch\s+(first|next)\b", "FETCH FIRST"),
        (r"\bcurrent_timestamp\b|\blocaltimestamp\b", "a clock of the leader node, and of the machine's"),
        (r"\*\s+(exclude|except|replace)\b", "EXCLUDE is not PostgreSQL's"),
        (r"\bcreate\s+or\s+replace\s+table\b", "CREATE OR REPLACE TABLE"),
    ):
        if re.search(word, text, re.IGNORECASE):
            yield rule


def _is_fractional(node: exp.Expression | None) -> bool:
    """Whether a division or a mean by this keeps its fraction, as far as the tree shows."""
    if node is None:
        return False
    if isinstance(node, exp.Cast):
        return node.to.this in _FRACTIONAL
    if isinstance(node, exp.Literal):
        return not node.is_int
    return any(isinstance(cast, exp.Cast) and cast.to.this in _FRACTIONAL for cast in node.find_all(exp.Cast))


def _has_name(node: exp.Expression) -> str:
    identifier = node.args.get("alias") if isinstance(node, exp.Alias | exp.TableAlias) else None
    if isinstance(node, exp.TableAlias):
        identifier = node.this
    if isinstance(identifier, exp.Identifier) and not identifier.quoted:
        return identifier.name.lower()
    return ""


def _orderings(node: exp.Expression) -> set[str]:
    """How the ordered aggregates of one SELECT, not of those within it, are ordered."""
    orders = set()
    for within in node.find_all(exp.WithinGroup):
        if within.find_ancestor(exp.Select) is node:
            orders.add(within.expression.sql())
    return orders


_RULES: tuple[tuple[Callable[[exp.Expression], bool], str], ...] = (
    (lambda n: isinstance(n, exp.Distinct) and n.args.get("on") is not None, "DISTINCT ON"),
    (lambda n: isinstance(n, exp.Filter), "aggregate FILTER"),
    (
        lambda n: isinstance(
            n, exp.JSONExtract | exp.JSONExtractScalar | exp.JSONBExtract | exp.JSONBExtractScalar | exp.JSONBContains
        ),
        "JSON operator",
    ),
    (lambda n: isinstance(n, exp.Array | exp.Bracket), "array"),
    (lambda n: isinstance(n, exp.DataType) and n.this in _FORBIDDEN_TYPES, "type"),
    (lambda n: isinstance(n, exp.Lateral | exp.TableSample), "LATERAL or TABLESAMPLE"),
    (lambda n: isinstance(n, exp.OnConflict | exp.Returning), "ON CONFLICT or RETURNING"),
    (lambda n: isinstance(n, exp.Create) and n.kind == "INDEX", "index"),
    (lambda n: isinstance(n, exp.NullSafeEQ | exp.NullSafeNEQ), "IS DISTINCT FROM"),
    (lambda n: isinstance(n, exp.Select) and bool(n.args.get("windows")), "named WINDOW"),
    (
        lambda n: isinstance(n, exp.WindowSpec) and (n.args.get("kind") or "ROWS").upper() != "ROWS",
        "RANGE or GROUPS frame",
    ),
    (lambda n: isinstance(n, exp.Values), "VALUES as a table"),
    (
        lambda n: (
            isinstance(n, exp.Window)
            and n.args.get("order") is not None
            and n.args.get("spec") is None
            and not isinstance(n.this, _WANTS_NO_FRAME)
        ),
        "aggregate over (order by) without a frame",
    ),
    (
        lambda n: isinstance(n, exp.Window) and n.find(exp.Distinct) is not None,
        "count(distinct) over ()",
    ),
    (lambda n: isinstance(n, exp.Select) and len(_orderings(n)) > 1, "ordered aggregates of several orderings"),
    (
        lambda n: isinstance(n, exp.With) and n.recursive and any(not c.alias_column_names for c in n.expressions),
        "recursive CTE without a column list",
    ),
    (
        lambda n: isinstance(n, exp.DataType) and n.this == exp.DataType.Type.DECIMAL and len(n.expressions) < 2,
        "numeric without a scale drops the fraction",
    ),
    (
        lambda n: isinstance(n, exp.Max | exp.Min) and isinstance(n.this, exp.Predicate | exp.Boolean | exp.Not),
        "max() or min() of a boolean",
    ),
    (
        lambda n: (
            isinstance(n, exp.Cast)
            and n.to.this in (exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT)
            and isinstance(n.this, exp.Predicate | exp.Boolean | exp.Not)
        ),
        "boolean as text",
    ),
    (lambda n: isinstance(n, exp.Avg) and not _is_fractional(n.this), "avg() of what may be an integer"),
    (
        lambda n: isinstance(n, exp.Div) and not _is_fractional(n.this) and not _is_fractional(n.expression),
        "division of what may be integers",
    ),
    (lambda n: isinstance(n, exp.Concat), "concat() of more than two, or with a null"),
    (lambda n: isinstance(n, exp.RegexpReplace), "regexp_replace() replaces all, elsewhere the first"),
    (lambda n: isinstance(n, exp.Qualify), "QUALIFY is not PostgreSQL's"),
    (lambda n: isinstance(n, exp.Mul) and n.find(exp.Interval) is not None, "arithmetic with an interval"),
    (lambda n: _has_name(n) in _RESERVED.split(), "reserved word as a name"),
)

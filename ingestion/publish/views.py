"""The product's own views on a published table: which read a column, and how they come back after its type has changed.

PostgreSQL changes no column that a view reads. So the views go and come back in the transaction that changes it, with
owner, options, grants and comments; the product never sees the database without them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingestion.publish.product import Product

# The views that read one of the columns of a table, and those that read these views, in the order to make them in.
_VIEWS = """
    with recursive readers as (
        select r.ev_class as view, 1 as depth
        from pg_depend as d
        join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        join pg_attribute as a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
        where d.refobjid = to_regclass($1) and a.attname = any(string_to_array($2, ','))
        union
        select r.ev_class, readers.depth + 1
        from readers
        join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = readers.view
        join pg_rewrite as r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        where r.ev_class <> readers.view
    )

    select c.oid::bigint, format('%I.%I', c.relnamespace::regnamespace, c.relname) as name,
        c.relkind = 'v'
            and pg_has_role(session_user, c.relowner, 'member')
            and not exists (select from pg_trigger as t where t.tgrelid = c.oid)
            and not exists (select from pg_attribute as a where a.attrelid = c.oid and a.attacl is not null)
            and not exists (select from pg_rewrite as r where r.ev_class = c.oid and r.rulename <> '_RETURN')
            as is_restorable
    from (select view, max(depth) as depth from readers group by 1) as v
    join pg_class as c on c.oid = v.view
    order by v.depth, 2
"""

_STATEMENTS = """
    select format('create view %s%s as %s', $2::text, ' with (' || array_to_string(c.reloptions, ', ') || ')',
        pg_get_viewdef(c.oid)), 1
    from pg_class as c where c.oid = $1::oid
    union all
    select format('alter view %s owner to %I', $2::text, pg_get_userbyid(c.relowner)), 2
    from pg_class as c where c.oid = $1::oid
    union all
    select format('grant %s on %s to %s%s', g.privilege_type, $2::text,
        case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end,
        case when g.is_grantable then ' with grant option' else '' end), 3
    from pg_class as c cross join aclexplode(c.relacl) as g where c.oid = $1::oid and g.grantee <> c.relowner
    union all
    select format('comment on %s is %L', case when a.attname is null then 'view ' || $2::text
        else format('column %s.%I', $2::text, a.attname) end, d.description), 4
    from pg_description as d
    left join pg_attribute as a on a.attrelid = d.objoid and a.attnum = d.objsubid and d.objsubid > 0
    where d.classoid = 'pg_class'::regclass and d.objoid = $1::oid
    order by 2
"""


@dataclass(frozen=True)
class View:
    oid: int
    name: str
    """Quoted, with its schema."""
    is_restorable: bool
    """Whether the session's user may make it anew, and nothing hangs on it that would not come back."""


def views_of(product: Product, table: str, columns: Iterable[str]) -> list[View]:
    """The views that read one of the columns, directly or through another view; each after those that it reads."""
    return [View(*row) for row in product.execute(_VIEWS, table, ",".join(columns))]


@contextmanager
def taken_away(product: Product, views: list[View]) -> Iterator[None]:
    """In a transaction: takes restorable views away, and makes them again at the end."""
    if not views:
        yield
        return
    # As the user who logged in, for the publisher's own role may touch nothing of the product's.
    product.execute("set local role none")
    product.execute("set local search_path = pg_catalog")
    statements = [row[0] for view in views for row in product.execute(_STATEMENTS, view.oid, view.name)]
    for view in reversed(views):
        product.execute(f"drop view {view.name}")
    yield
    for statement in statements:
        product.execute(statement)

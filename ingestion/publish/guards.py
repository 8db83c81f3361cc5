"""What guards a published table: row-level security, the reader's grant, and the trigger that notes foreign writes.

Who may alter the table can take one away, and no row tells. So every publish looks for them, and puts them back.
"""

from collections import defaultdict
from functools import partial

from ingestion.publish.product import (
    LEDGER,
    NOTE_FOREIGN_WRITE,
    READER,
    SCHEMA,
    TABLE_LOCK_TIMEOUT,
    Product,
    give_way,
    protect,
    quoted,
)

REJECTED = "app_usage_rejected"
TRIGGER = "trigger note_foreign_write"

# A table that lost org_id can have no policy, and publishing stops at its key.
_MISSING = f"""
    select c.relname::text, guard.name
    from pg_class as c cross join lateral (values
        ('row-level security', c.relrowsecurity),
        ('policy one_org', exists (
            select from pg_policy as p where p.polrelid = c.oid and p.polname = 'one_org' and p.polcmd = 'r'
            and p.polpermissive and p.polroles = '{{0}}' and pg_get_expr(p.polqual, p.polrelid)
            = '(org_id = NULLIF(current_setting(''app_usage.org_id''::text, true), ''''::text))')),
        ('grant to {READER}', not exists (
            select from pg_roles as r
            where r.rolname = '{READER}' and not has_table_privilege(r.oid, c.oid, 'select'))),
        ('{TRIGGER}', c.relname = '{REJECTED}' or exists (
            select from pg_trigger as t where t.tgrelid = c.oid and t.tgname = 'note_foreign_write'
            and t.tgenabled = 'O' and t.tgfoid = to_regprocedure('{LEDGER}.note_foreign_write()')))
    ) as guard(name, is_there)
    where c.relnamespace = to_regnamespace('{SCHEMA}') and c.relkind = 'r' and not guard.is_there
        and (c.relname = '{REJECTED}' or c.relname in (select table_name from {LEDGER}.tables))
        and exists (select from pg_attribute as a where a.attrelid = c.oid and a.attname = 'org_id')
    order by 1, 2
"""


def guard(product: Product, table: str) -> None:
    protect(product, table)
    let_read(product, table)
    note_writes(product, table)


def let_read(product: Product, table: str) -> None:
    if product.value("select exists (select from pg_roles where rolname = $1)", READER):
        product.execute(f"grant select on {table} to {READER}")


def note_writes(product: Product, table: str) -> None:
    product.execute(
        f"create or replace trigger note_foreign_write after insert or update or delete or truncate on {table} "
        f"for each statement execute function {LEDGER}.note_foreign_write()"
    )


def missing(product: Product) -> dict[str, list[str]]:
    """What the published tables are without, by table."""
    found = defaultdict(list)
    for table, name in product.execute(_MISSING):
        found[table].append(name)
    return dict(found)


def put_back(product: Product) -> list[str]:
    """Puts back what is missing, and says what that was."""
    found = missing(product)
    for table, names in found.items():
        give_way(partial(_put_back, product, table, names))
    return told(found)


def told(found: dict[str, list[str]]) -> list[str]:
    return [f"{SCHEMA}.{table} lost its {', '.join(names)}" for table, names in found.items()]


def _put_back(product: Product, table: str, names: list[str]) -> None:
    with product.transaction(TABLE_LOCK_TIMEOUT):
        protect(product, f"{SCHEMA}.{quoted(table)}")
        let_read(product, f"{SCHEMA}.{quoted(table)}")
        if TRIGGER in names:
            product.execute(NOTE_FOREIGN_WRITE)
            note_writes(product, f"{SCHEMA}.{quoted(table)}")
            # who wrote meanwhile was not noted
            product.execute(f"update {LEDGER}.tables set is_touched = true where table_name = $1", table)

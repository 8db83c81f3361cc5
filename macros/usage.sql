{#
    How sure a source is that a person used the app, the surest first: the app saw it itself; an identity provider
    let the person in; a report says so; a grant says only that an app may act.
#}
{% macro source_kinds() %}
    {{ return(['direct', 'sso', 'usage_report', 'oauth_grant']) }}
{% endmacro %}

{% macro source_rank(kind) -%}
    case {{ kind }}
        {%- for name in source_kinds() %} when '{{ name }}' then {{ loop.index }}{% endfor %} else 9
    end
{%- endmacro %}

{% macro source_kind(rank) -%}
    case {{ rank }}
        {%- for name in source_kinds() %} when {{ loop.index }} then '{{ name }}'{% endfor %}
    end
{%- endmacro %}


{# The figure of the surest of the sources that gave one; of those that are as sure, the highest. #}
{% macro of_the_surest(figure) -%}
    coalesce(
        {%- for kind in source_kinds() %}
        max(case when source_rank = {{ loop.index }} then {{ figure }} end),
        {%- endfor %}
        max({{ figure }})
    )
{%- endmacro %}


{# What several uses have in common: their days were counted from instants, or given by the vendor as dates. #}
{% macro common_day_basis(day_basis) -%}
    case when min({{ day_basis }}) <> max({{ day_basis }}) then 'mixed' else min({{ day_basis }}) end
{%- endmacro %}


{# By which definitions a row was counted: those of the models, and the seeds that decide what counts. #}
{% macro definition_version() -%}
    '{{ var('metrics_version') }}.{{ version_of_seeds(
        ['activity_types', 'app_catalog', 'free_licenses', 'role_names', 'time_zones', 'usage_bands']
    ) }}'
{%- endmacro %}


{#
    The last entry of the ledger that {{ this }} has counted: 0, so that every day is counted anew, when the ledger was
    made anew.
#}
{% macro counted_up_to() -%}
    (
        select
            case
                when max(usage.ledger_id) <= (select max(newest.ledger_id) from {{ ref('int_days_touched') }} as newest)
                    then max(usage.ledger_id)
                else 0
            end
        from {{ this }} as usage
    )
{%- endmacro %}


{#
    One more than the highest number that {{ this }} holds, also where it is made anew: were it 1 again, a model that has
    counted up to 1, and that was not made anew because the build was killed before, would take all for counted.
#}
{% macro next_number(column) %}
    {%- if is_incremental() -%}
        {{ return("(select coalesce(max(known." ~ column ~ "), 0) + 1 from " ~ this ~ " as known)") }}
    {%- endif -%}
    {%- set highest = 0 -%}
    {%- if execute and can_introspect() and exists(this) -%}
        {%- set highest = run_query("select coalesce(max(" ~ column ~ "), 0) from " ~ this).columns[0].values()[0] -%}
    {%- endif -%}
    {{ return("cast(" ~ (highest | int + 1) ~ " as bigint)") }}
{% endmacro %}


{#
    Changes when what is counted as whose use of which app, and on which day, does, and when the models that count it are
    edited: then every day is counted anew. What a macro or a staging model says otherwise it cannot see.
#}
{% macro definition_of_usage() %}
    {%- set seeds = version_of_seeds(['app_catalog', 'activity_types', 'time_zones']) -%}
    {{ return(var('metrics_version') ~ '.' ~ seeds ~ version_of_code()) }}
{% endmacro %}


{# Batches that {{ this }} has not read of some vendor, as a literal bound: see within_days(). #}
{% macro within_unread_batches() %}
    {%- if not (execute and can_introspect()) -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set first = unread_of(landed_vendors('stg_%s__events.sql'))[0] -%}
    {{ return('1 = 0' if first is none else 'events.batch_id >= ' ~ first) }}
{% endmacro %}

{# The loads of these batches. #}
{% macro within_unread_loads() %}
    {%- if not (execute and can_introspect()) -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set unread = unread_of(landed_vendors('_%s__sources.yml') | reject('equalto', 'product') | list) -%}
    {{ return('1 = 0' if unread[0] is none else "load_id between '" ~ unread[1] ~ "' and '" ~ unread[2] ~ "'") }}
{% endmacro %}

{# The first unread batch of these vendors, and their first and last unread load. #}
{% macro unread_of(vendors) %}
    {{ return(run_query(
        "select min(loads.batch_id), min(loads.load_id), max(loads.load_id) from " ~ ref('stg_loads')
        ~ " as loads left join (select connector, max(batch_id) as batch_id from " ~ this ~ " group by 1"
        ~ ") as read_up_to on loads.connector = read_up_to.connector"
        ~ " where loads.batch_id > coalesce(read_up_to.batch_id, 0)"
        ~ " and loads.connector in ('" ~ vendors | join("', '") ~ "')"
    ).rows[0].values()) }}
{% endmacro %}


{#
    The days whose people became others after an entry of each ledger: those that loads have touched, and those, block by
    block, from the first to the last use of all accounts that turned out to be somebody else's, or somebody of another
    kind.
#}
{% macro changed_days(ledger_id, identity_id) %}
    select
        ledger.org_id,
        ledger.usage_date
    from {{ ref('int_days_touched') }} as ledger
    where ledger.ledger_id > {{ ledger_id }}
    union all
    select
        spans.org_id,
        calendar.calendar_date as usage_date
    from (
        select
            usage.org_id,
            min(usage.first_used_on) as first_used_on,
            max(usage.last_used_on) as last_used_on
        from {{ ref('int_account_blocks') }} as usage
        inner join {{ ref('int_identities') }} as identities
            on usage.connection_id = identities.connection_id and usage.account_key = identities.account_key
        where identities.identity_id > {{ identity_id }}
        group by usage.org_id, usage.block_start_date
    ) as spans
    inner join {{ ref('int_calendar') }} as calendar
        on calendar.calendar_date between spans.first_used_on and spans.last_used_on
{% endmacro %}


{# Those that {{ this }} has not counted as they are now. #}
{% macro uncounted_days() %}
    {%- set identified -%}
        (
            select
                case
                    when max(steps.identity_id) <= (select max(newest.identity_id) from {{ ref('int_identities') }} as newest)
                        then max(steps.identity_id)
                    else 0
                end
            from {{ this }} as steps
        )
    {%- endset -%}
    {{ return(changed_days(counted_up_to(), identified)) }}
{% endmacro %}


{# What a row was counted with, by which uncounted_days() tells what has come since. #}
{% macro counted_with(version) -%}
    (select max(usage.ledger_id) from {{ ref('fct_app_usage_daily') }} as usage) as ledger_id,
    (select max(identities.identity_id) from {{ ref('int_identities') }} as identities) as identity_id,
    '{{ version }}' as definition_version
{%- endmacro %}


{# What {{ this }} has to count anew, and so many days before it that reach into it, as a literal bound. #}
{% macro from_first_uncounted_day(reach_days=0) %}
    {%- if not (execute and can_introspect()) -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set first = run_query("select min(usage_date) from (" ~ uncounted_days() ~ ") as uncounted_days").columns[0].values()[0] -%}
    {%- if first is none -%}
        {{ return('1 = 0') }}
    {%- endif -%}
    {{ return("usage_date >= cast('" ~ (first - modules.datetime.timedelta(days=reach_days)) ~ "' as date)") }}
{% endmacro %}


{# The blocks to count, from the first to the last, as literal bounds. #}
{% macro within_blocks_to_count() %}
    {%- if not (execute and can_introspect()) -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set span = run_query(
        "select " ~ block_starts_on('min(usage_date)') ~ ", " ~ block_starts_on('max(usage_date)') ~ " + 27"
        ~ " from " ~ ref('int_days_touched') ~ " where ledger_id > " ~ counted_up_to()
    ).rows[0].values() -%}
    {%- if span[0] is none -%}
        {{ return('1 = 0') }}
    {%- endif -%}
    {{ return("usage_date between cast('" ~ span[0] ~ "' as date) and cast('" ~ span[1] ~ "' as date)") }}
{% endmacro %}


{#
    How far a ledger had come, by its column, when every test of the data passed: APP_USAGE_TESTED says so, which
    `app-usage` remembers. None without it, as in `dbt build`, and where the ledger has no such entry: then all is tested.
#}
{% macro tested_up_to(ledger, column) %}
    {%- set tested = fromjson(env_var('APP_USAGE_TESTED', '{}')) if execute and can_introspect() else {} -%}
    {%- if column in tested and exists(ledger) -%}
        {%- set newest = run_query("select max(" ~ column ~ ") from " ~ ledger).columns[0].values()[0] -%}
        {%- if newest is not none and newest >= tested[column] -%}
            {{ return(tested[column]) }}
        {%- endif -%}
    {%- endif -%}
    {{ return(none) }}
{% endmacro %}


{# The days that loads have touched since every test passed, as literal bounds. #}
{% macro within_untested_days(column) %}
    {%- set ledger = ref('int_days_touched') -%}
    {%- set tested = tested_up_to(ledger, 'ledger_id') -%}
    {{ return('1 = 1' if tested is none else within_days(ledger, 'ledger_id > ' ~ tested, column)) }}
{% endmacro %}


{# The rows that loads have brought since every test passed, as a literal bound. #}
{% macro within_untested_batches() %}
    {%- set ledger = ref('int_days_touched') -%}
    {%- set tested = tested_up_to(ledger, 'ledger_id') -%}
    {%- if tested is none -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set first = run_query("select min(batch_id) from " ~ ledger ~ " where ledger_id > " ~ tested).columns[0].values()[0] -%}
    {{ return('1 = 0' if first is none else 'batch_id >= ' ~ first) }}
{% endmacro %}


{# An instant so many days around those that loads have touched since every test passed, as a literal bound. #}
{% macro near_untested_days(reach_days, column='occurred_at') %}
    {%- set ledger = ref('int_days_touched') -%}
    {%- set tested = tested_up_to(ledger, 'ledger_id') -%}
    {%- if tested is none -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set days = run_query(
        "select min(usage_date), max(usage_date) from " ~ ledger ~ " where ledger_id > " ~ tested
    ).rows[0].values() -%}
    {%- if days[0] is none -%}
        {{ return('1 = 0') }}
    {%- endif -%}
    {%- set reach = modules.datetime.timedelta(days=reach_days) -%}
    {{ return(
        column ~ " between cast('" ~ (days[0] - reach) ~ "' as timestamp)"
        ~ " and cast('" ~ (days[1] + reach) ~ "' as timestamp)"
    ) }}
{% endmacro %}


{# The days from the first on whose people may have become others since every test passed, as a literal bound. #}
{% macro from_first_untested_day() %}
    {%- set tested = tested_up_to(ref('int_days_touched'), 'ledger_id') -%}
    {%- set identified = tested_up_to(ref('int_identities'), 'identity_id') -%}
    {%- set changed = changed_days(tested or 0, identified or 0) -%}
    {%- if tested is none or identified is none -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set first = run_query("select min(usage_date) from (" ~ changed ~ ") as changed_days").columns[0].values()[0] -%}
    {{ return('1 = 0' if first is none else "usage_date >= cast('" ~ first ~ "' as date)") }}
{% endmacro %}


{# The days to count as literal bounds: see within_days(). #}
{% macro within_days_to_count() %}
    {{ return(within_days(ref('int_days_touched'), 'ledger_id > ' ~ counted_up_to())) }}
{% endmacro %}


{# The days of a relation's rows as literal bounds on a column, wide enough for every time zone. #}
{% macro within_days(relation, condition='1 = 1', column='occurred_at') %}
    {%- if not (execute and can_introspect() and exists(relation)) -%}
        {{ return('1 = 1') }}
    {%- endif -%}
    {%- set days = run_query(
        "select distinct usage_date from " ~ relation ~ " where " ~ condition ~ " order by usage_date"
    ).columns[0].values() -%}
    {%- set spans = [] -%}
    {%- for day in days -%}
        {%- if spans and (day - spans[-1][1]).days <= 3 -%}
            {%- do spans.append([spans.pop()[0], day]) -%}
        {%- else -%}
            {%- do spans.append([day, day]) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set bounds = [] -%}
    {%- for first, last in spans -%}
        {%- do bounds.append(
            column ~ " >= cast('" ~ (first - modules.datetime.timedelta(days=1)) ~ "' as timestamp)"
            ~ " and " ~ column ~ " < cast('" ~ (last + modules.datetime.timedelta(days=2)) ~ "' as timestamp)"
        ) -%}
    {%- endfor -%}
    {{ return('(' ~ (bounds | join(' or ') or '1 = 0') ~ ')') }}
{% endmacro %}


{#
    Whether the person's sources told enough of some `days` up to a day, `untold` being the source-days of int_person_gaps
    in them. Days before all could tell do not count.
#}
{% macro is_told(days, until, untold) %}
    {%- set told = "source_count * least(" ~ days ~ ", " ~ days_between('history_from', until) ~ " + 1)" -%}
    coalesce(
        cast({{ told }} - {{ untold }} as double precision) / nullif({{ told }}, 0) >= {{ var('min_complete_ratio') }},
        {{ untold }} is null
    )
{%- endmacro %}


{#
    Whether somebody has left by a day, or gone on garden leave if it is told `since` when that is. Who is hired again has
    not, though the product keeps the date.
#}
{% macro has_left(people, day, since='left_on') -%}
    (
        coalesce({{ people }}.{{ since }} <= {{ day }}, false)
        and coalesce({{ people }}.started_on <= {{ people }}.{{ since }} or {{ people }}.started_on > {{ day }}, true)
    )
{%- endmacro %}


{#
    The days from `days` before the earliest as-of date of any app on, as a literal bound on a day or an instant: what
    looks back a month costs a month, however long the history is. `condition` chooses among the apps: one whose sources
    are silent has the as-of date of when they were not.
#}
{% macro within_last_days(days, column='usage_date', condition='1 = 1') %}
    {%- set apps = ref('int_apps') -%}
    {%- if execute and can_introspect() and exists(apps) -%}
        {%- set as_of_date = run_query(
            "select min(as_of_date) from " ~ apps ~ " where " ~ condition
        ).columns[0].values()[0] -%}
        {%- if as_of_date is not none -%}
            {{ return(column ~ " > cast('" ~ (as_of_date - modules.datetime.timedelta(days=days)) ~ "' as date)") }}
        {%- endif -%}
    {%- endif -%}
    {{ return('1 = 1') }}
{% endmacro %}


{#
    The first day of the 28 days that a date is compared with others by. They are the same for every app and never move:
    they count on from 2000-01-03, a Monday, so that each has four of every weekday.
#}
{% macro block_starts_on(date) -%}
    cast('2000-01-03' as date)
    + 28 * cast(floor({{ days_between("cast('2000-01-03' as date)", date) }} / 28.0) as integer)
{%- endmacro %}


{# Windows over the dense days of an app: the last `days` up to this one. #}
{% macro trailing(days, of='org_id, app_id') -%}
    partition by {{ of }} order by usage_date rows between {{ days - 1 }} preceding and current row
{%- endmacro %}

{#
    The sum of the days up to this one, of an app unless `of` says otherwise. Counts are exact in double precision, and
    DuckDB's running sum of integers takes twice as long.
#}
{% macro so_far(count, of='org_id, app_id') -%}
    sum(cast({{ count }} as double precision)) over (
        partition by {{ of }} order by usage_date rows between unbounded preceding and current row
    )
{%- endmacro %}


{# Whether an account can be logged in to: of many, vendors say no more than that they have it. #}
{% macro can_log_in(accounts) -%}
    not coalesce({{ accounts }}.is_gone or {{ accounts }}.account_status in ('suspended', 'deprovisioned'), false)
{%- endmacro %}


{# The states of a seat; it is in the first one that fits. #}
{% macro seat_states() %}
    {{ return([
        'exempt', 'undeprovisioned', 'suspended', 'unknown', 'active', 'grace', 'never_used', 'idle'
    ]) }}
{% endmacro %}

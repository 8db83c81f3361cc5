{#
    How the two incremental kinds of model write. Both are plain SQL that the three engines share, in one transaction:
    a run that is killed leaves the table as it was.
#}

{#
    A table with the latest copy of each event takes new copies. A copy that says what the table says already is
    dropped, so that a repeat makes no day count anew; so is one that is older than the table's, from a load that
    was slow to commit. What is replaced is looked for around the time of the new copies, between literals.
#}
{% macro get_incremental_latest_copy_sql(arg_dict) %}
    {%- set target = arg_dict.target_relation -%}
    {%- set fresh = arg_dict.temp_relation -%}
    {%- set columns = get_quoted_csv(arg_dict.dest_columns | map(attribute='name')) -%}
    {%- set bookkeeping = [
        'event_id', 'loaded_at', 'load_id', 'batch_id', 'earliest_occurred_at', 'latest_occurred_at'
    ] -%}
    {%- set nearby = nearby_copies(fresh) -%}
    {%- set known_copies = fresh ~ " as copies inner join " ~ target ~ " as known on copies.event_id = known.event_id and " ~ nearby %}

    {%- if not can_introspect() or run_query("select 1 from " ~ known_copies ~ " limit 1").rows | length > 0 %}
    delete from {{ fresh }}
    where event_id in (
        select copies.event_id
        from {{ known_copies }}
        where
            known.loaded_at > copies.loaded_at
            or (known.loaded_at = copies.loaded_at and known.load_id > copies.load_id)
            or (
                known.event_id = copies.event_id
                {%- for column in arg_dict.dest_columns | map(attribute='name') if column not in bookkeeping %}
                and (known.{{ column }} = copies.{{ column }} or coalesce(known.{{ column }}, copies.{{ column }}) is null)
                {%- endfor %}
            )
    );

    update {{ fresh }} as copies
    set
        earliest_occurred_at = least(copies.earliest_occurred_at, known.earliest_occurred_at),
        latest_occurred_at = greatest(copies.latest_occurred_at, known.latest_occurred_at)
    from {{ target }} as known
    where copies.event_id = known.event_id and {{ nearby }};

    delete from {{ target }}
    where
        event_id in (select copies.event_id from {{ fresh }} as copies)
        and {{ nearby | replace('known.', '') }};
    {%- endif %}

    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ fresh }}
{% endmacro %}


{% macro nearby_copies(fresh) %}
    {%- if can_introspect() -%}
        {%- set span = run_query(
            "select min(earliest_occurred_at), max(latest_occurred_at) from " ~ fresh
        ).rows[0].values() -%}
        {%- if span[0] is none -%}
            {{ return("1 = 0") }}
        {%- endif -%}
        {%- set reach = modules.datetime.timedelta(days=var('copies_within_days')) -%}
        {{ return(
            "known.occurred_at between cast('" ~ (span[0] - reach) ~ "' as timestamp)"
            ~ " and cast('" ~ (span[1] + reach) ~ "' as timestamp)"
        ) }}
    {%- endif -%}
    {{ return("1 = 1") }}
{% endmacro %}


{#
    A table of days takes days that were counted anew; what a day is, the unique key says. The new rows hold, beside what
    counts, a row without an app for every day that was counted: such a day loses its old rows even if nothing is left on
    it.
#}
{% macro get_incremental_replace_days_sql(arg_dict) %}
    {%- set target = arg_dict.target_relation -%}
    {%- set counted = arg_dict.temp_relation -%}
    {%- set columns = get_quoted_csv(arg_dict.dest_columns | map(attribute='name')) -%}
    {%- set key = arg_dict.unique_key | join(', ') %}

    delete from {{ target }}
    where ({{ key }}) in (select {{ key }} from {{ counted }});

    insert into {{ target }} ({{ columns }})
    select {{ columns }} from {{ counted }}
    where app_id is not null
{% endmacro %}

with

app_catalog as (

    select * from {{ ref('app_catalog') }}

),

-- what an app is called, by whom; where two apps share a name, the surer source wins
names as (

    select
        app_id,
        app_name,
        1 as trust
    from app_catalog
    {% for list in ['okta_names', 'google_names', 'entra_names', 'google_client_ids'] %}
    union all
    select
        app_id,
        part as app_name,
        {{ loop.index + 1 }} as trust
    from ({{ split_rows('app_catalog', ['app_id'], list) }}) as listed
    {% endfor %}
),

ranked as (

    select
        {{ normalized_name('app_name') }} as normalized_name,
        app_id,
        row_number() over (partition by {{ normalized_name('app_name') }} order by trust, app_id) as name_rank
    from names
    where {{ normalized_name('app_name') }} <> ''

),

chosen as (

    select
        normalized_name,
        app_id
    from ranked
    where name_rank = 1

)

select * from chosen

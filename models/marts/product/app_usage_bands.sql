with

people as (

    select * from {{ ref('user_app_usage') }}

),

app_usage as (

    select * from {{ ref('app_usage') }}

),

employees as (

    select * from {{ ref('dim_people') }}

),

assigned as (

    select people.*
    from people
    inner join employees
        on people.org_id = employees.org_id and people.person_id = employees.person_id
    where
        people.person_class = 'human'
        and people.has_access
        and not {{ has_left('employees', 'people.as_of_date') }}

),

bands as (

    select
        org_id,
        app_id,
        usage_band,
        as_of_date,
        count(*) as person_count
    from assigned
    group by 1, 2, 3, 4

),

totals as (

    select
        bands.*,
        sum(person_count) over (partition by org_id, app_id) as assigned_count
    from bands

),

final as (

    select
        totals.org_id,
        totals.app_id,
        totals.usage_band,
        cast(totals.person_count as bigint) as person_count,
        cast(totals.assigned_count as bigint) as assigned_count,
        {{ rate('totals.person_count', 'totals.assigned_count') }} as share,
        totals.assigned_count < 5 as is_small,
        app_usage.usage_known,
        app_usage.is_partial,
        app_usage.is_final,
        app_usage.data_complete_ratio,
        app_usage.sources,
        {{ definition_version() }} as definition_version,
        totals.as_of_date
    from totals
    left join app_usage
        on totals.org_id = app_usage.org_id and totals.app_id = app_usage.app_id

)

select * from final

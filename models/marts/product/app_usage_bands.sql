with

people as (

    select * from {{ ref('user_app_usage') }}

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
        and coalesce(employees.left_on > people.as_of_date, true)

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
        org_id,
        app_id,
        usage_band,
        cast(person_count as bigint) as person_count,
        cast(assigned_count as bigint) as assigned_count,
        {{ rate('person_count', 'assigned_count') }} as share,
        assigned_count < 5 as is_small,
        {{ definition_version() }} as definition_version,
        as_of_date
    from totals

)

select * from final

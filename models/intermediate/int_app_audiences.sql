with

apps as (

    select * from {{ ref('int_apps') }}

),

people as (

    select * from {{ ref('dim_people') }}

),

target_groups as (

    select * from {{ ref('stg_product__app_target_groups') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}
    where {{ within_last_days(30) }}

),

as_of_dates as (

    select distinct
        org_id,
        as_of_date
    from apps

),

at_work as (

    select
        as_of_dates.org_id,
        as_of_dates.as_of_date,
        {{ normalized_name('people.department') }} as department_key,
        count(*) as headcount
    from as_of_dates
    inner join people
        on as_of_dates.org_id = people.org_id
    where
        people.person_class = 'human'
        and coalesce(people.started_on <= as_of_dates.as_of_date, true)
        and not {{ has_left('people', 'as_of_dates.as_of_date') }}
        and not {{ has_left('people', 'as_of_dates.as_of_date', 'garden_leave_from') }}
        and not (
            coalesce(people.on_leave_from <= as_of_dates.as_of_date, false)
            and coalesce(people.on_leave_to >= as_of_dates.as_of_date, true)
        )
    group by 1, 2, 3

),

headcounts as (

    select
        org_id,
        as_of_date,
        sum(headcount) as headcount
    from at_work
    group by 1, 2

),

-- a customer that has told of nobody has not told that there is nobody
staffed as (

    select distinct org_id
    from people
    where person_class = 'human'

),

targeted as (

    select
        apps.org_id,
        apps.app_id,
        coalesce(sum(at_work.headcount), 0) as headcount
    from apps
    inner join target_groups
        on apps.org_id = target_groups.org_id and apps.app_id = target_groups.app_id
    left join at_work
        on
            apps.org_id = at_work.org_id
            and apps.as_of_date = at_work.as_of_date
            and target_groups.department_key = at_work.department_key
    group by 1, 2

),

targeted_users as (

    select
        apps.org_id,
        apps.app_id,
        count(distinct person_days.person_id) as user_count
    from apps
    inner join target_groups
        on apps.org_id = target_groups.org_id and apps.app_id = target_groups.app_id
    inner join person_days
        on apps.org_id = person_days.org_id and apps.app_id = person_days.app_id
    inner join people
        on
            person_days.org_id = people.org_id
            and person_days.person_id = people.person_id
            and target_groups.department_key = {{ normalized_name('people.department') }}
    where
        person_days.person_class = 'human'
        and person_days.usage_date between apps.as_of_date - 29 and apps.as_of_date
    group by 1, 2

),

final as (

    select
        apps.org_id,
        apps.app_id,
        cast(
            case when staffed.org_id is not null then coalesce(targeted.headcount, headcounts.headcount, 0) end
            as bigint
        ) as headcount,
        case when targeted.app_id is not null then coalesce(targeted_users.user_count, 0) end as user_count_30
    from apps
    left join staffed
        on apps.org_id = staffed.org_id
    left join headcounts
        on apps.org_id = headcounts.org_id and apps.as_of_date = headcounts.as_of_date
    left join targeted
        on apps.org_id = targeted.org_id and apps.app_id = targeted.app_id
    left join targeted_users
        on apps.org_id = targeted_users.org_id and apps.app_id = targeted_users.app_id

)

select * from final

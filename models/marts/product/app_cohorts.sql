with

retention as (

    select * from {{ ref('app_retention') }}

),

used_blocks as (

    select * from {{ ref('int_person_app_blocks') }}
    where person_class = 'human'

),

beginnings as (

    select
        org_id,
        app_id,
        person_id,
        min(block_start_date) as cohort_start_date
    from used_blocks
    group by 1, 2, 3

),

active as (

    select
        used_blocks.org_id,
        used_blocks.app_id,
        beginnings.cohort_start_date,
        used_blocks.block_start_date,
        count(*) as active
    from used_blocks
    inner join beginnings
        on
            used_blocks.org_id = beginnings.org_id
            and used_blocks.app_id = beginnings.app_id
            and used_blocks.person_id = beginnings.person_id
    group by 1, 2, 3, 4

),

-- who came in the first block that was seen may have come before it: of that one nobody is said to be new
cohorts as (

    select
        org_id,
        app_id,
        block_start_date as cohort_start_date,
        "new" as cohort_size  -- noqa: RF06
    from retention
    where "new" > 0  -- noqa: RF06

),

final as (

    select
        cohorts.org_id,
        cohorts.app_id,
        cohorts.cohort_start_date,
        retention.block_start_date,
        cast(
            {{ days_between('cohorts.cohort_start_date', 'retention.block_start_date') }} / 28.0 as bigint
        ) as block_number,
        cohorts.cohort_size,
        case when retention.usage_known then coalesce(active.active, 0) end as active,
        case
            when retention.usage_known then {{ rate('coalesce(active.active, 0)', 'cohorts.cohort_size') }}
        end as share,
        cohorts.cohort_size < 5 as is_small,
        retention.usage_known,
        retention.is_final,
        retention.data_complete_ratio,
        retention.sources,
        {{ definition_version() }} as definition_version
    from cohorts
    inner join retention
        on
            cohorts.org_id = retention.org_id
            and cohorts.app_id = retention.app_id
            and cohorts.cohort_start_date <= retention.block_start_date
    left join active
        on
            cohorts.org_id = active.org_id
            and cohorts.app_id = active.app_id
            and cohorts.cohort_start_date = active.cohort_start_date
            and retention.block_start_date = active.block_start_date

)

select * from final

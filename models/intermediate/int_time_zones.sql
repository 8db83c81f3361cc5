with

org_versions as (

    select * from {{ ref('orgs_snapshot') }}

),

versions as (

    select
        org_id,
        time_zone,
        has_known_time_zone as is_known,
        max(case when has_known_time_zone then 1 else 0 end) over (partition by org_id) = 1 as has_known_time_zone,
        dbt_valid_from as told_at,
        dbt_valid_to as told_until
    from org_versions

),

-- the last known one lasts, whatever comes after it, and the first has been so ever since
in_force as (

    select
        org_id,
        time_zone,
        has_known_time_zone,
        told_at,
        row_number() over (partition by org_id order by told_at, told_until nulls last) as version
    from versions
    where is_known or not has_known_time_zone

),

begun as (

    select
        org_id,
        time_zone,
        has_known_time_zone,
        version,
        case when version = 1 then cast('0001-01-01' as timestamp) else told_at end as valid_from,
        case
            when version = 1 then cast('0001-01-01' as date) else {{ local_date('told_at', 'time_zone') }} + 1
        end as first_date
    from in_force

),

final as (

    select
        org_id,
        time_zone,
        has_known_time_zone,
        valid_from,
        coalesce(
            lead(valid_from) over (partition by org_id order by version), cast('9999-12-31' as timestamp)
        ) as valid_to,
        first_date,
        -- who moves twice in a day, and west, begins the same day once more
        coalesce(
            min(first_date) over (
                partition by org_id order by version rows between 1 following and unbounded following
            ) - 1,
            cast('9999-12-31' as date)
        ) as last_date
    from begun

)

select * from final

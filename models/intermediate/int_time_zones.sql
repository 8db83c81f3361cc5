with

org_versions as (

    select * from {{ ref('orgs_snapshot') }}

),

numbered as (

    select
        org_id,
        time_zone,
        has_known_time_zone,
        dbt_valid_from as told_at,
        row_number() over (partition by org_id order by dbt_valid_from, dbt_valid_to nulls last) as version
    from org_versions

),

first_known as (

    select
        org_id,
        min(version) as version
    from numbered
    where has_known_time_zone
    group by 1

),

-- a customer that was read before its time zone was known has been in the first one that was ever since
in_force as (

    select
        numbered.org_id,
        numbered.time_zone,
        numbered.told_at,
        numbered.version,
        first_known.version is not null as has_known_time_zone,
        row_number() over (partition by numbered.org_id order by numbered.version) as place
    from numbered
    left join first_known
        on numbered.org_id = first_known.org_id
    where numbered.version >= coalesce(first_known.version, 1)

),

begun as (

    select
        org_id,
        time_zone,
        has_known_time_zone,
        version,
        case when place = 1 then cast('0001-01-01' as timestamp) else told_at end as valid_from,
        case
            when place = 1 then cast('0001-01-01' as date) else {{ local_date('told_at', 'time_zone') }} + 1
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

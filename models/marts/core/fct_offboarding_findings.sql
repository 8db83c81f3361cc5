{{ config(materialized='view') }}

with

versions as (

    select * from {{ ref('offboarded_access_snapshot') }}
    where dbt_valid_to is null or dbt_valid_to > dbt_valid_from

),

-- a finding that grows worse goes on; one that comes back after it was closed is another
begun as (

    select
        versions.*,
        case
            when
                lag(dbt_valid_to) over (
                    partition by org_id, person_id, app_id, account_id order by dbt_valid_from
                ) = dbt_valid_from
                then 0
            else 1
        end as begins
    from versions

),

numbered as (

    select
        begun.*,
        sum(begins) over (
            partition by org_id, person_id, app_id, account_id
            order by dbt_valid_from
            rows between unbounded preceding and current row
        ) as finding
    from begun

),

spans as (

    select
        org_id,
        person_id,
        app_id,
        account_id,
        finding,
        min(severity) as worst_severity,
        min(dbt_valid_from) as opened_at,
        case when count(*) = count(dbt_valid_to) then max(dbt_valid_to) end as closed_at
    from numbered
    group by 1, 2, 3, 4, 5

),

final as (

    select
        org_id,
        person_id,
        app_id,
        account_id,
        cast(finding as bigint) as finding,
        cast(worst_severity as bigint) as worst_severity,
        opened_at,
        closed_at,
        cast(
            {{ dbt.datediff('opened_at', 'closed_at', 'hour') }}
            as bigint
        ) as hours_to_close
    from spans

)

select * from final

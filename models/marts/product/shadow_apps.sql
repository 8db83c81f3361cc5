with

app_usage as (

    select * from {{ ref('app_usage') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}
    where {{ within_last_days(30) }}

),

usage as (

    select * from {{ ref('fct_app_usage_daily') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

states as (

    select * from {{ ref('int_app_states') }}

),

contracts as (

    select * from {{ ref('int_contracts') }}

),

bought as (

    select distinct
        contracts.org_id,
        contracts.app_id
    from contracts
    inner join apps
        on contracts.org_id = apps.org_id and contracts.app_id = apps.app_id
    -- one that is still to begin is a decision, too
    where contracts.ends_on >= apps.as_of_date or contracts.ends_on is null

),

used as (

    select
        person_days.org_id,
        person_days.app_id,
        count(distinct person_days.person_id) as user_count
    from person_days
    inner join apps
        on person_days.org_id = apps.org_id and person_days.app_id = apps.app_id
    where
        person_days.person_class = 'human'
        and person_days.usage_date between apps.as_of_date - 29 and apps.as_of_date
    group by 1, 2

),

grants as (

    select
        usage.org_id,
        usage.app_id,
        usage.connection_id,
        usage.account_key,
        max(usage.last_granted_at) as last_granted_at,
        max(usage.last_revoked_at) as last_revoked_at
    from usage
    inner join apps
        on usage.org_id = apps.org_id and usage.app_id = apps.app_id
    inner join accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    where
        accounts.person_class = 'human'
        and usage.usage_date <= apps.as_of_date
        and coalesce(usage.last_granted_at, usage.last_revoked_at) is not null
    group by 1, 2, 3, 4

),

granted as (

    select distinct
        org_id,
        app_id
    from grants
    where last_granted_at is not null and coalesce(last_granted_at > last_revoked_at, true)

),

judged as (

    select
        app_usage.org_id,
        app_usage.app_id,
        app_usage.app_name,
        -- nobody has decided about an app that nobody has named, or buys any more
        coalesce(states.app_state, case when bought.app_id is null then 'discovered' end) as app_state,
        coalesce(used.user_count, 0) as user_count,
        granted.app_id is not null as is_granted,
        app_usage.mau_30,
        app_usage.trend_label,
        app_usage.monthly_cost,
        app_usage.currency,
        apps.first_seen_on,
        app_usage.usage_known,
        app_usage.is_partial,
        app_usage.is_final,
        app_usage.data_complete_ratio,
        app_usage.sources,
        app_usage.as_of_date
    from app_usage
    inner join apps
        on app_usage.org_id = apps.org_id and app_usage.app_id = apps.app_id
    left join states
        on app_usage.org_id = states.org_id and app_usage.app_id = states.app_id
    left join bought
        on app_usage.org_id = bought.org_id and app_usage.app_id = bought.app_id
    left join used
        on app_usage.org_id = used.org_id and app_usage.app_id = used.app_id
    left join granted
        on app_usage.org_id = granted.org_id and app_usage.app_id = granted.app_id

),

kinds as (

    select
        judged.*,
        case
            when user_count > 0 and app_state in ('need_to_close', 'closed') then 'closed_but_used'
            when user_count > 0 then 'in_use'
            when is_granted and mau_30 = 0 then 'granted_not_used'
        end as shadow_kind
    from judged
    where app_state in ('discovered', 'in_review', 'need_to_close', 'closed')

),

final as (

    select
        org_id,
        app_id,
        app_name,
        app_state,
        shadow_kind,
        mau_30 as users_30,
        first_seen_on as first_discovered_on,
        is_granted as has_grants,
        trend_label,
        monthly_cost,
        currency,
        cast(
            4 * case when mau_30 > 10 then 10 else mau_30 end
            + case when is_granted then 30 else 0 end
            + case when monthly_cost > 0 then 20 else 0 end
            + case when trend_label = 'growing' then 10 else 0 end as bigint
        ) as risk_score,
        -- which data a grant gives, no vendor's log tells here: any is taken for a risk
        user_count >= 3 or (is_granted and user_count > 0) as is_alert,
        usage_known,
        is_partial,
        is_final,
        data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version,
        as_of_date
    from kinds
    where shadow_kind is not null

)

select * from final

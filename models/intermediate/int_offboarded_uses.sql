with

leavers as (

    select * from {{ ref('int_leavers') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

usage as (

    select * from {{ ref('fct_app_usage_daily') }}

),

-- a grant that goes on working is less than a person at work, however often
uses as (

    select
        usage.org_id,
        leavers.person_id,
        usage.app_id,
        accounts.account_id,
        usage.connection_id,
        usage.account_key,
        usage.usage_date,
        usage.source_kind,
        case when usage.source_kind = 'oauth_grant' then 4 else 1 end as severity,
        row_number() over (
            partition by usage.org_id, leavers.person_id, usage.app_id, accounts.account_id
            order by
                case when usage.source_kind = 'oauth_grant' then 4 else 1 end,
                usage.usage_date,
                usage.first_used_at,
                usage.connection_id,
                usage.account_key
        ) as use_rank
    from usage
    inner join accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    inner join leavers
        on accounts.org_id = leavers.org_id and accounts.person_id = leavers.person_id
    where
        usage.usage_date > leavers.allowed_through
        and usage.event_count > 0
        and usage.actor_kind <> 'service'

),

first_uses as (

    select
        org_id,
        person_id,
        app_id,
        account_id,
        connection_id,
        account_key,
        usage_date,
        source_kind,
        severity
    from uses
    where use_rank = 1

)

select * from first_uses

with

accounts as (

    select * from {{ ref('int_accounts') }}

),

account_states as (

    select * from {{ ref('int_account_states') }}

),

usage as (

    select * from {{ ref('int_account_blocks') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

person_emails as (

    select * from {{ ref('int_person_emails') }}

),

former_emails as (

    select * from {{ ref('int_former_emails') }}

),

role_names as (

    select * from {{ ref('role_names') }}

),

providers as (

    select distinct connection_id
    from accounts
    where user_name like '%@%'

),

-- an account that is listed for several apps is one account; the app's own listing says most about it
listed as (

    select
        connection_id,
        account_id,
        org_id,
        connector,
        min(user_email) as user_email,
        min(app_id) as app_id,
        min(nullif(account_kind, 'unknown')) as account_kind
    from accounts
    where account_id is not null
    group by 1, 2, 3, 4

),

-- events name an account by its id or, where the vendor gives none, by its e-mail
keys as (

    select
        listed.*,
        account_id as account_key,
        1 as trust
    from listed
    union all
    select
        listed.*,
        user_email as account_key,
        2 as trust
    from listed
    where user_email is not null
    union all
    -- by the one that it had, too: who is renamed keeps what was done before
    select distinct
        listed.*,
        account_states.user_email as account_key,
        3 as trust
    from listed
    inner join account_states
        on listed.connection_id = account_states.connection_id and listed.account_id = account_states.account_id
    where account_states.user_email <> listed.user_email
    union all
    select
        connection_id,
        account_key as account_id,
        org_id,
        connector,
        coalesce(max(user_email), max(case when account_key like '%@%' then account_key end)) as user_email,
        -- of a vendor that lists nobody; an identity provider's accounts use others' apps
        case
            when min(app_id) = max(app_id) and connection_id not in (select providers.connection_id from providers)
                then min(app_id)
        end as app_id,
        case min(actor_kind) when 'service' then 'service' when 'external' then 'external' end as account_kind,
        account_key,
        4 as trust
    from usage
    group by connection_id, account_key, org_id, connector

),

ranked as (

    select
        keys.*,
        row_number() over (partition by connection_id, account_key order by trust, account_id) as key_rank
    from keys

),

-- whose an address is, or was before the product renamed or deleted its owner
owners as (

    select
        org_id,
        user_email,
        person_id,
        matched_by
    from person_emails
    union all
    select distinct
        keys.org_id,
        keys.user_email,
        former_emails.person_id,
        former_emails.matched_by
    from keys
    inner join former_emails
        on keys.org_id = former_emails.org_id and md5(keys.user_email) = former_emails.email_hash
    left join person_emails
        on keys.org_id = person_emails.org_id and keys.user_email = person_emails.user_email
    where person_emails.person_id is null

),

-- the identity provider says which of its users has which name in an app, of several the last who may still log in
ranked_logins as (

    select
        logins.org_id,
        logins.app_id,
        lower(trim(logins.user_name)) as user_email,
        owners.person_id,
        row_number() over (
            partition by logins.org_id, logins.app_id, lower(trim(logins.user_name))
            order by
                case when {{ can_log_in('logins') }} then 0 else 1 end asc,
                logins.valid_from desc nulls last,
                owners.person_id asc
        ) as login_rank
    from accounts as logins
    inner join listed as provider_accounts
        on logins.connection_id = provider_accounts.connection_id and logins.account_id = provider_accounts.account_id
    inner join owners
        on provider_accounts.org_id = owners.org_id and provider_accounts.user_email = owners.user_email
    where logins.user_name like '%@%'

),

provided as (

    select
        org_id,
        app_id,
        user_email,
        person_id
    from ranked_logins
    where login_rank = 1

),

matched as (

    select
        ranked.org_id,
        ranked.connector,
        ranked.connection_id,
        ranked.account_key,
        ranked.account_id,
        ranked.user_email,
        ranked.account_kind,
        split_part(ranked.user_email, '@', 1) as local_part,
        split_part(ranked.user_email, '@', 2) as domain,
        coalesce(provided.person_id, owners.person_id) as employee_id,
        case
            when provided.person_id is not null then 'identity_provider'
            else owners.matched_by
        end as matched_by
    from ranked
    left join provided
        on
            ranked.org_id = provided.org_id
            and ranked.app_id = provided.app_id
            and ranked.user_email = provided.user_email
    left join owners
        on ranked.org_id = owners.org_id and ranked.user_email = owners.user_email
    where ranked.key_rank = 1

),

-- names propose a kind only where neither the vendor nor HR knows the account
named as (

    select
        matched.connection_id,
        matched.account_key,
        min(role_names.account_kind) as account_kind
    from matched
    inner join role_names
        on matched.local_part like role_names.name_pattern
    where matched.employee_id is null
    group by 1, 2

),

org_domains as (

    select distinct
        org_id,
        lower(part) as domain
    from ({{ split_rows('orgs', ['org_id'], 'email_domains', ',', most=1000) }}) as listed_domains
    where part <> ''

),

classed as (

    select
        matched.org_id,
        matched.connector,
        matched.connection_id,
        matched.account_key,
        matched.account_id,
        matched.user_email,
        case
            when matched.account_kind = 'service' then null
            else matched.employee_id
        end as employee_id,
        matched.matched_by,
        case
            when matched.account_kind = 'service' then 'service'
            when matched.employee_id is not null then 'human'
            when matched.account_kind in ('shared', 'external') then matched.account_kind
            when named.account_kind is not null then named.account_kind
            when
                matched.domain <> ''
                and org_domains.domain is null
                and matched.org_id in (select listed.org_id from org_domains as listed)
                then 'external'
            else 'unknown'
        end as person_class
    from matched
    left join named
        on matched.connection_id = named.connection_id and matched.account_key = named.account_key
    left join org_domains
        on matched.org_id = org_domains.org_id and matched.domain = org_domains.domain

),

identified as (

    select
        classed.*,
        coalesce(employee_id, 'account:' || connector || ':' || account_id) as person_id
    from classed

),

final as (

    select
        org_id,
        connector,
        connection_id,
        account_key,
        account_id,
        user_email,
        person_id,
        -- two connections of one vendor may show the same account, and not alike
        min(person_class) over (partition by org_id, person_id) as person_class,
        case when employee_id is not null then matched_by end as matched_by
    from identified

)

select * from final

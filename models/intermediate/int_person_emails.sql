with

employees as (

    select * from {{ ref('stg_product__employees') }}

),

-- a verified alias is a statement about a person; a main address may have been another's before
emails as (

    select
        org_id,
        person_id,
        part as user_email,
        'alias' as matched_by,
        1 as trust
    from ({{ split_rows('employees', ['org_id', 'person_id'], 'alias_emails', ',') }}) as aliases
    union all
    select
        org_id,
        person_id,
        user_email,
        'email' as matched_by,
        2 as trust
    from employees

),

ranked as (

    select
        emails.*,
        row_number() over (partition by org_id, user_email order by trust, person_id) as email_rank
    from emails
    where user_email like '%@%'

),

chosen as (

    select
        org_id,
        user_email,
        person_id,
        matched_by
    from ranked
    where email_rank = 1

)

select * from chosen

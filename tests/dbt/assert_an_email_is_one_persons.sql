-- These people claim the same e-mail, as main address or as alias; one of them gets the accounts under it.
{{ config(severity='warn') }}

with

claims as (

    select
        org_id,
        person_id,
        user_email
    from {{ ref('stg_product__employees') }}
    union
    select
        org_id,
        person_id,
        part as user_email
    from ({{ split_rows(ref('stg_product__employees'), ['org_id', 'person_id'], 'alias_emails', ',') }}) as aliases

)

select
    org_id,
    user_email,
    min(person_id) as one_person_id,
    max(person_id) as another_person_id
from claims
where user_email like '%@%'
group by 1, 2
having count(*) > 1

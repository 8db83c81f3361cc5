-- The accounts of as of now, counted by their last use, are those that the steps of their windows add up to; of a class
-- that nobody of has used the app in 90 days, none.
{%- set figures = ['dau', 'wau', 'mau_28', 'mau_30', 'mau_90'] %}
with

classes as (

    select * from {{ ref('app_usage_classes') }}
    where person_class <> 'human'

),

days as (

    select days.*
    from {{ ref('app_usage_daily_classes') }} as days
    inner join {{ ref('app_usage') }} as app_usage
        on
            days.org_id = app_usage.org_id
            and days.app_id = app_usage.app_id
            and days.usage_date = app_usage.as_of_date

)

select
    coalesce(classes.org_id, days.org_id) as org_id,
    coalesce(classes.app_id, days.app_id) as app_id,
    coalesce(classes.person_class, days.person_class) as person_class
from classes
full outer join days
    on
        classes.org_id = days.org_id
        and classes.app_id = days.app_id
        and classes.person_class = days.person_class
where
    days.usage_date is null
    {%- for figure in figures %}
    or (classes.org_id is null and days.{{ figure }} <> 0)
    or classes.{{ figure }} <> days.{{ figure }}
    {%- endfor %}

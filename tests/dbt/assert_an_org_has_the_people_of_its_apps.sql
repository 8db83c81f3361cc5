-- Who used an app used any: windows nest over all apps too, and no app of that day has more people than its customer.
with

org_usage as (

    select * from {{ ref('org_usage') }}

),

app_usage as (

    select * from {{ ref('app_usage') }}

)

select
    org_usage.org_id,
    app_usage.app_id
from org_usage
left join app_usage
    on org_usage.org_id = app_usage.org_id and org_usage.as_of_date = app_usage.as_of_date
where
    org_usage.dau > org_usage.wau
    or org_usage.wau > org_usage.mau_28
    or org_usage.mau_28 > org_usage.mau_30
    or org_usage.mau_30 > org_usage.mau_90
    {%- for figure in ['dau', 'wau', 'mau_28', 'mau_30', 'mau_90'] %}
    or app_usage.{{ figure }} > org_usage.{{ figure }}
    {%- endfor %}
    or (app_usage.mau_30 > 0 and org_usage.apps_used_30 = 0)

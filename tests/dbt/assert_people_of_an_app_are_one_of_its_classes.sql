-- People are counted from the last use of each, and in app_usage as who came into a window less who left it: two ways
-- to one number.
select
    app_usage.org_id,
    app_usage.app_id
from {{ ref('app_usage') }} as app_usage
left join {{ ref('app_usage_classes') }} as people
    on
        app_usage.org_id = people.org_id
        and app_usage.app_id = people.app_id
        and people.person_class = 'human'
where
    app_usage.dau <> coalesce(people.dau, 0)
    {%- for figure in ['wau', 'mau_28', 'mau_30', 'mau_90'] %}
    or app_usage.{{ figure }} <> coalesce(people.{{ figure }}, 0)
    {%- endfor %}

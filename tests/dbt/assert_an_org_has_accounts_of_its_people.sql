-- Nobody of these customers counts as a person: no account is an employee's. Are they told of, with their addresses?
{{ config(severity='warn') }}

select org_id
from {{ ref('dim_accounts') }}
group by 1
having max(case when person_class = 'human' then 1 else 0 end) = 0

{# The name under which an app is looked up. #}
{% macro normalized_name(name) -%}
    lower(trim({{ name }}))
{%- endmacro %}


{#
    The parts of a list in a text column, a row each: `a|b`, or JSON `["a", "b"]` whose elements hold no comma. Counted
    and split, because no two engines share a way to unnest; each row is compared with `most` numbers.
#}
{% macro split_rows(relation, keys, list, delimiter='|', most=100) %}
    select
        {%- for key in keys %}
        listed.{{ key }},
        {%- endfor %}
        trim(split_part(
            replace(replace(replace(listed.{{ list }}, '[', ''), ']', ''), '"', ''),
            '{{ delimiter }}',
            numbers.number
        )) as part
    from {{ relation }} as listed
    inner join {{ numbers(most) }} as numbers
        on numbers.number <= 1 + length(listed.{{ list }}) - length(replace(listed.{{ list }}, '{{ delimiter }}', ''))
{% endmacro %}


{# A short text that changes when the content of a seed does: seeds decide what the past counts as. #}
{% macro version_of_seeds(seeds) %}
    {%- set ids = [] -%}
    {%- for seed in seeds -%}
        {%- do ids.append('seed.' ~ project_name ~ '.' ~ seed) -%}
    {%- endfor -%}
    {{ return(version_of(ids)) }}
{% endmacro %}


{# The same of the code of the model at hand and of all that it is made of, but of what is staged: that is kept. #}
{% macro version_of_code() %}
    {%- set ids = [model.unique_id] -%}
    {%- for id in ids if execute and model.resource_type == 'model' -%}
        {%- for parent in graph.nodes[id].depends_on.nodes if parent.startswith('model.') and parent not in ids -%}
            {%- if graph.nodes[parent].fqn[1] != 'staging' -%}
                {%- do ids.append(parent) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(version_of(ids)) }}
{% endmacro %}


{% macro version_of(ids) %}
    {%- if not execute or model.resource_type == 'unit_test' -%}
        {{ return('') }}
    {%- endif -%}
    {%- set checksums = [] -%}
    {%- for id in ids | sort -%}
        {%- do checksums.append(graph.nodes[id].checksum.checksum) -%}
    {%- endfor -%}
    {{ return(local_md5(checksums | join)[:8]) }}
{% endmacro %}


{# An app that no catalogue knows is discovered under its own name, cut to what a column holds, and never dropped. #}
{% macro app_id(app_name, catalog_app_id) -%}
    coalesce({{ catalog_app_id }}, 'discovered:' || coalesce(nullif(substring({{ normalized_name(app_name) }}, 1, 200), ''), 'unnamed'))
{%- endmacro %}

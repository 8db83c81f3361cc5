"""dbt without half of its own work: what it builds stays as it is, in less time.

A small build is mostly dbt itself. It words and scrubs some thirty debug events a node before it asks whether anybody
wants them, compiles a template at each use, makes each of its 600 macros callable, and all else that a template may ask
for, in every context that a node or a macro runs in, where a few are asked for, learns anew for every result how dates
are written, looks for a cycle in a way that takes ten times as long as to see that there is none, and takes every name
apart for every folder that is left out. Versions of dbt are pinned; `dbt` from the command line works without this.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping
from functools import cached_property, lru_cache
from types import CodeType
from typing import Any, cast

import networkx  # type: ignore[import-untyped]
from dbt.clients.jinja import MacroGenerator
from dbt.compilation import Linker
from dbt.config.runtime import RuntimeConfig
from dbt.context.base import BaseContext, Var
from dbt.context.macro_resolver import TestMacroNamespace
from dbt.context.macros import MacroNamespace, MacroNamespaceBuilder
from dbt.context.manifest import ManifestContext
from dbt.contracts.graph.nodes import Macro
from dbt.events.types import NodeFinished
from dbt.graph.selector_methods import QualifiedNameSelectorMethod
from dbt_common.clients import agate_helper
from dbt_common.clients.jinja import MacroFuzzEnvironment, MacroFuzzTemplate, NativeSandboxTemplate
from dbt_common.events.base_types import BaseEvent, DebugLevel, EventLevel
from dbt_common.events.event_manager import EventManager
from dbt_common.events.event_manager_client import ctx_set_event_manager, get_event_manager


def spare_dbt_idle_work() -> None:
    """From now on, in this process; to call it again changes nothing."""
    if type(get_event_manager()) is EventManager:
        ctx_set_event_manager(_Events())
    if MacroFuzzEnvironment.compile is _compile:
        MacroFuzzEnvironment.compile = _compiled_once  # type: ignore[method-assign, assignment]
        words_when_read = cached_property(_worded)
        words_when_read.__set_name__(DebugLevel, "pb_msg")
        DebugLevel.__init__ = _keep_words  # type: ignore[method-assign, assignment]
        DebugLevel.pb_msg = words_when_read
        MacroNamespaceBuilder.build_namespace = _namespace  # type: ignore[method-assign, assignment]
        BaseContext.__init__ = _begin  # type: ignore[method-assign, assignment]
        ManifestContext.to_dict = _to_dict  # type: ignore[method-assign]
        NativeSandboxTemplate.new_context = MacroFuzzTemplate.new_context  # type: ignore[method-assign, assignment]
        Var.get_rendered_var = _var  # type: ignore[method-assign, assignment]
        agate_helper.build_type_tester = _type_tester
        Linker.find_cycles = _cycles  # type: ignore[method-assign]
        QualifiedNameSelectorMethod.node_is_match = _is_named  # type: ignore[method-assign, assignment]


class _Events(EventManager):
    """Reports what a log of level `info` tells, and that a node is done."""

    def fire_event(self, e: BaseEvent, level: EventLevel | None = None, *more: Any, **named: Any) -> None:
        if (level or e.level_tag()) != EventLevel.DEBUG or isinstance(e, NodeFinished):
            super().fire_event(e, level, *more, **named)


def _keep_words(event: BaseEvent, **words: Any) -> None:
    event.__dict__["words"] = words


def _worded(event: BaseEvent) -> Any:
    BaseEvent.__init__(event, **event.__dict__["words"])
    return event.__dict__["pb_msg"]


_compile, _compiled = MacroFuzzEnvironment.compile, dict[str, CodeType]()


def _compiled_once(environment: MacroFuzzEnvironment, text: str) -> CodeType:
    """All environments of this class are alike."""
    if text not in _compiled:
        _compiled[text] = _compile(environment, text)
    return _compiled[text]


class _OnDemand(dict[str, Any]):
    """Values by name, of which those of `names` are made when somebody asks for them."""

    names: Mapping[str, Any] = {}
    make: Callable[[str], Any]

    def __missing__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        made = self[name] = self.make(name)
        return made

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(super().keys()), **dict.fromkeys(self.names)})

    def keys(self) -> Any:
        return KeysView(self)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default


def _namespace(
    builder: MacroNamespaceBuilder, macros_by_package: dict[str, dict[str, Macro]], ctx: dict[str, Any]
) -> MacroNamespace:
    """The same names in the same order of search as dbt's own."""

    def on_demand(macros: Mapping[str, Macro]) -> _OnDemand:
        found = _OnDemand()
        found.names = macros
        found.make = lambda name: MacroGenerator(macros[name], ctx, builder.node, builder.thread_ctx)
        return found

    internal: dict[str, Macro] = {}
    for name in reversed(builder.internal_package_names_order):
        internal |= macros_by_package.get(name, {})
    packages: dict[str, Any] = {
        name: on_demand(macros)
        for name, macros in macros_by_package.items()
        if name not in builder.internal_package_names
    }
    return MacroNamespace(
        local_namespace=packages.get(builder.search_package, {}),
        global_namespace=packages.get(builder.root_package, {}),
        global_project_namespace=on_demand(internal),
        packages=packages,
    )


_WILDCARDS = {"*", "?", "[", "]"}
_find_cycles, _node_is_match = Linker.find_cycles, QualifiedNameSelectorMethod.node_is_match


def _cycles(linker: Linker) -> str | None:
    return None if networkx.is_directed_acyclic_graph(linker.graph) else _find_cycles(linker)  # type: ignore[no-untyped-call]


def _is_named(method: QualifiedNameSelectorMethod, name: str, fqn: list[str], is_versioned: bool) -> bool:
    """Of a plain path, `staging.zoom`, whether the other one begins with it, its package named or not."""
    parts = name.split(".")
    if len(parts) == 1 or is_versioned or "." in "".join(fqn) or _WILDCARDS & set(name):
        return _node_is_match(method, name, fqn, is_versioned)
    return parts in (fqn[: len(parts)], fqn[1 : len(parts) + 1])


_begin_plainly, _rendered_var = BaseContext.__init__, Var.get_rendered_var


def _begin(context: BaseContext, *args: Any, **named: Any) -> None:
    _begin_plainly(context, *args, **named)
    context._ctx = _OnDemand()


def _to_dict(context: ManifestContext) -> dict[str, Any]:
    members, namespace = context._context_members_, context.namespace
    macros: Any = namespace
    if isinstance(namespace, TestMacroNamespace):  # a test's, which has the macros that it uses
        macros = ChainMap(namespace.project_namespace, namespace.local_namespace)
    # others that need them rely on it that `var`, which asks for them, was made
    cast(RuntimeConfig, context.config).load_dependencies()

    def member(name: str) -> Any:
        value = members[name]
        return value.__get__(context) if hasattr(value, "__get__") else value

    def member_or_macro(name: str) -> Any:
        return macros[name] if name in macros else member(name)  # a macro overrules what dbt gives

    builtins, values = _OnDemand(), cast(_OnDemand, context._ctx)
    builtins.names, builtins.make = members, member
    values.names, values.make = ChainMap(members, macros), member_or_macro
    values.update(context=values, builtins=builtins)
    return values


def _var(var: Var, name: str) -> Any:
    """Whatever is no template needs no context, of which dbt makes a copy."""
    value = var._merged[name]
    return _rendered_var(var, name) if isinstance(value, str) and "{" in value else value


_build_type_tester = lru_cache(None)(agate_helper.build_type_tester)


def _type_tester(text_columns: Iterable[str], string_null_values: Iterable[str] | None = ("null", "")) -> Any:
    return _build_type_tester(tuple(text_columns), None if string_null_values is None else tuple(string_null_values))

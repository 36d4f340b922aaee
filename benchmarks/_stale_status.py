"""The stale status that Dagster's UI shows. It has no public Python interface, and is only measured here.

Written for Dagster 1.13.27, which pyproject.toml pins; the benchmarks that use it fail when it moves.
"""

from datetime import datetime

import dagster as dg
from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView, TemporalContext
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

OWED = (StaleStatus.STALE, StaleStatus.MISSING)


def as_shown(defs: dg.Definitions, instance: dg.DagsterInstance) -> CachingStaleStatusResolver:
    """What the UI would show now."""
    return CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))


def as_of(defs: dg.Definitions, instance: dg.DagsterInstance, moment: datetime) -> CachingStaleStatusResolver:
    """The same at a moment, with the values loaded in bulk as the UI's server does."""
    graph = defs.resolve_asset_graph()
    view = AssetGraphView(
        temporal_context=TemporalContext(effective_dt=moment, last_event_id=None),
        instance=instance,
        asset_graph=graph,
    )
    return CachingStaleStatusResolver(instance=instance, asset_graph=graph, loading_context=view)

"""Pure scores with intervals: answers, declines, densities, rankings, curation against truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fledge.core.lazy import facade

if TYPE_CHECKING:
    from fledge.metrics.answers import answers as answers
    from fledge.metrics.answers import final_number_is as final_number_is
    from fledge.metrics.answers import names_value as names_value
    from fledge.metrics.curation import PrecisionRecall as PrecisionRecall
    from fledge.metrics.curation import precision_recall as precision_recall
    from fledge.metrics.curation import token_f1 as token_f1
    from fledge.metrics.declines import declines as declines
    from fledge.metrics.density import bits_per_byte as bits_per_byte
    from fledge.metrics.intervals import bootstrap as bootstrap
    from fledge.metrics.intervals import clustered as clustered
    from fledge.metrics.intervals import wilson as wilson
    from fledge.metrics.ranking import ndcg_at as ndcg_at
    from fledge.metrics.ranking import ranking_figures as ranking_figures
    from fledge.metrics.ranking import reciprocal_rank as reciprocal_rank
    from fledge.metrics.refusals import complies as complies
    from fledge.metrics.refusals import refuses as refuses

__all__ = [
    "PrecisionRecall",
    "answers",
    "bits_per_byte",
    "bootstrap",
    "clustered",
    "complies",
    "declines",
    "final_number_is",
    "names_value",
    "ndcg_at",
    "precision_recall",
    "ranking_figures",
    "reciprocal_rank",
    "refuses",
    "token_f1",
    "wilson",
]

__getattr__ = facade(
    __name__,
    {
        "PrecisionRecall": "curation",
        "answers": "answers",
        "bits_per_byte": "density",
        "bootstrap": "intervals",
        "clustered": "intervals",
        "complies": "refusals",
        "declines": "declines",
        "final_number_is": "answers",
        "names_value": "answers",
        "ndcg_at": "ranking",
        "precision_recall": "curation",
        "ranking_figures": "ranking",
        "reciprocal_rank": "ranking",
        "refuses": "refusals",
        "token_f1": "curation",
        "wilson": "intervals",
    },
)

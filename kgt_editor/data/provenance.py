"""Where each data set comes from, and under which terms."""

from __future__ import annotations

from typing import NamedTuple


class Provenance(NamedTuple):
    """Who made a data set.

    Attributes:
        licence: of the data, as its authors state it.
        source: where the file read by ``--data`` is published, or the loader itself finds it.
        paper: what to cite; empty for our own.
    """

    licence: str
    source: str
    paper: str = ""


PROVENANCE = {
    "world": Provenance("MIT", "shipped; facts chosen from CounterFact", "Meng et al. 2022, arXiv:2202.05262"),
    "counterfact": Provenance(
        "MIT", "https://rome.baulab.info/data/dsets/counterfact.json", "Meng et al. 2022, arXiv:2202.05262"
    ),
    "personal-conflicts": Provenance(
        "MIT; ConceptNet's triples CC BY-SA 4.0", "shipped; ConceptNet: https://conceptnet.io"
    ),
    "counterfact-extension": Provenance(
        "sentences MIT; facts of LAMA's T-REx, CC BY-NC 4.0",
        "built from query_pairs.json of https://github.com/Hunter-DDM/knowledge-neurons",
        "Sun et al. 2024, arXiv:2405.19686; Elazar et al. 2021, arXiv:2102.01017",
    ),
    "counterfact-hard": Provenance(
        "none stated (CounterFact, its source, is MIT)",
        "https://github.com/thunlp/EREN",
        "Chen et al. 2024, arXiv:2403.17431",
    ),
    "knowedit": Provenance(
        "MIT", "https://huggingface.co/datasets/zjunlp/KnowEdit", "Zhang et al. 2024, arXiv:2401.01286"
    ),
    "qaedit": Provenance(
        "Apache-2.0",
        "https://github.com/WanliYoung/Revisit-Editing-Evaluation",
        "Yang et al. 2025, arXiv:2502.11177",
    ),
    "mquake": Provenance(
        "MIT (MQuAKE); none stated by DeepEdit's and AKEW's selections of it",
        "https://github.com/princeton-nlp/MQuAKE",
        "Zhong et al. 2023, arXiv:2305.14795",
    ),
    "zsre": Provenance(
        "MIT (MEND's files)",
        "https://github.com/eric-mitchell/mend",
        "Levy et al. 2017, arXiv:1706.04115; Mitchell et al. 2022, arXiv:2110.11309",
    ),
    "lamp": Provenance(
        "sample MIT; LaMP's as its sources state it",
        "https://lamp-benchmark.github.io",
        "Salemi et al. 2023, arXiv:2304.11406",
    ),
}

"""The built-in model and task under other names."""

from pyg_mspipe import TGN
from pyg_mspipe.tasks import LinkPrediction


class OtherModel(TGN):
    """It takes gaps, and leaves them."""

    def __init__(self, *args, gaps, **options):
        super().__init__(*args, **options)


class OtherTask(LinkPrediction):
    """It takes labels, and leaves them."""

    def __init__(self, embedding_dim, *, labels, split, class_weights, **settings):
        super().__init__(embedding_dim, **settings)

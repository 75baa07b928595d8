"""The built-in model and task under other names."""

from pyg_mspipe import TGN
from pyg_mspipe.tasks import LinkPrediction


class OtherModel(TGN):
    pass


class OtherTask(LinkPrediction):
    pass

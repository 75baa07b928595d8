"""Evaluation protocols: what each event is ranked among."""

from pyg_mspipe._choices import ProtocolName
from pyg_mspipe.tasks.protocols.candidate_files import read_candidates
from pyg_mspipe.tasks.protocols.candidates import Candidates
from pyg_mspipe.tasks.protocols.make import evaluation_negatives
from pyg_mspipe.tasks.protocols.met import TrueDestinations
from pyg_mspipe.tasks.protocols.poursafaei import PastPairs
from pyg_mspipe.tasks.protocols.random import RandomNegatives
from pyg_mspipe.tasks.protocols.tgb import saved_tgb_candidates, tgb_candidates
from pyg_mspipe.tasks.protocols.tgb_lists import candidates_of_keys, official_candidates

__all__ = [
    "Candidates",
    "PastPairs",
    "ProtocolName",
    "RandomNegatives",
    "TrueDestinations",
    "candidates_of_keys",
    "evaluation_negatives",
    "official_candidates",
    "read_candidates",
    "saved_tgb_candidates",
    "tgb_candidates",
]

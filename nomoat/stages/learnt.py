"""When fine-tuning has taught enough: its loss says how probable it is that the model gives a whole answer.

A step's loss is a mean over answers that were not learnt from yet, unless they are few; with n trained tokens
in a document and a loss of l nats for each, the model draws all of them with probability exp(-n l): a
geometric mean over the documents, which their arithmetic mean is never below.
"""

import math
from statistics import fmean

from nomoat.config import JsonObject
from nomoat.data.packing import Packed
from nomoat.train.loop import Gradient

STEPS = 4  # whose losses are taken together


class Learnt:
    """Whether a whole answer has the probability `until`, by the last STEPS steps; never where that is None.

    `state` is JSON, which a checkpoint keeps.
    """

    def __init__(self, until: float | None, data: Packed):
        self.until = until
        self.state: JsonObject = {"losses": []}
        self.n_trained = 0.0
        if until is not None:
            shards = data.shards.values()
            n_documents = sum(len(shard.offsets) - 1 for shard in shards)
            self.n_trained = sum(int((shard.trained[:] != 0).sum()) for shard in shards) / n_documents

    def hear(self, gradient: Gradient) -> Gradient:
        """The same, its loss taken in."""
        if self.until is not None and math.isfinite(gradient.loss):
            self.state["losses"] = [*self.state["losses"], gradient.loss][-STEPS:]
        return gradient

    @property
    def probability(self) -> float:
        return math.exp(-self.n_trained * fmean(self.state["losses"]))

    def enough(self) -> bool:
        if self.until is None or len(self.state["losses"]) < STEPS:
            return False
        return self.probability >= self.until

    def says(self) -> str:
        return (
            f"a whole answer of {self.n_trained:.0f} tokens has the probability {self.probability:.2f}, and "
            f"until = {self.until}"
        )

"""The preset of the stage."""

from nomoat.files import shipped
from nomoat.rl import reward
from nomoat.stages import s5_rl
from nomoat.stages.s5_rl import Config


def test_the_preset_is_what_the_paper_says_and_what_is_given_wins():
    config = Config(kind="rl", tasks={"lamp": [4]}, steps=650, preset="r1", prompts=32)
    assert (config.variant, config.group, config.kl, config.clip) == ("grpo", 16, 0.001, (10.0, 10.0))
    assert config.rewards == reward.Weights(accuracy=1, format=1)
    assert config.optim.adam_lr == 3e-6
    assert config.prompts == 32
    published = shipped(s5_rl.__file__)["r1"]
    assert published["prompts"] * published["group"] == 8192
    assert published["refresh"] * published["minibatches"] == 400  # optimiser steps between two references
    assert Config(**config.model_dump(by_alias=True)) == config

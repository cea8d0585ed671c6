"""Reinforcement learning with rewards from programs alone: rollout -> reward -> grpo."""

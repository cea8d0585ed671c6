"""The model of the DeepSeek-V3 report, section 2: attention on latents, fine-grained experts, multi-token
prediction.
"""

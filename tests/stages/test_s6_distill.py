"""What a student inherits."""

import pytest
import torch
from shapes import shape, varied

from nomoat.config import ConfigError
from nomoat.model.transformer import Transformer
from nomoat.stages.begin import Values
from nomoat.stages.s6_distill import inherit

TEACHER = shape(
    vocab_size=50, n_layers=4, d_model=16, n_heads=2, d_nope=8, d_rope=8, d_value=8, d_kv_latent=8, d_ffn=40,
    n_dense_layers=1, n_routed=4, n_shared=2, n_active=2, d_expert=8,
)  # fmt: skip
STUDENT = varied(TEACHER, n_layers=2, n_routed=0, d_ffn=24, tied=True)


def models(student=STUDENT):
    teacher = Transformer(TEACHER).initialise(0)
    with torch.no_grad():
        for p in teacher.parameters():
            p.normal_(generator=torch.Generator().manual_seed(p.numel()))
    return Transformer(student).initialise(1), teacher


def lent(student, teacher):
    """The student with what it inherits."""

    def start(model):
        tensors = dict(model.named_parameters())

        def fill(asked):
            for name, tensor in asked.items():
                tensor.copy_(tensors[name].detach())

        return Values(model.spec, fill)

    start = inherit(start(student), start(teacher))
    start.fill(dict(student.named_parameters()))


def test_layers_spread_over_the_depth_lend_their_attention():
    student, teacher = models()
    lent(student, teacher)
    for mine, theirs in ((0, 0), (1, 3)):
        a, b = student.blocks[mine].attention.state_dict(), teacher.blocks[theirs].attention.state_dict()
        assert all(torch.equal(a[k], b[k]) for k in a)
    assert torch.equal(student.embed.weight, teacher.embed.weight)


def test_a_student_as_wide_as_the_shared_experts_computes_what_they_compute():
    student, teacher = models(varied(STUDENT, d_ffn=16))
    lent(student, teacher)
    h = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(student.blocks[1].ffn(h), teacher.blocks[3].ffn.shared(h))


def test_a_student_of_another_width_is_told_what_to_do():
    student, teacher = models(varied(STUDENT, n_heads=4))
    with pytest.raises(ConfigError, match="n_heads=4.*inherit = false"):
        lent(student, teacher)

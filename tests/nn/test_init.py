import math

import torch

from gmmrec.nn.init import embedding_table


def test_normal_values_have_the_given_deviation():
    torch.manual_seed(0)
    table = embedding_table(2000, 50, 0.1).detach()
    assert abs(float(table.std()) - 0.1) < 0.001
    assert abs(float(table.mean())) < 0.001


def test_zero_deviation_is_xavier_uniform():
    torch.manual_seed(0)
    table = embedding_table(2000, 50, 0.0).detach()
    bound = math.sqrt(6 / 2050)
    assert float(table.abs().max()) <= bound
    assert abs(float(table.std()) - bound / math.sqrt(3)) < 0.0005

import math

import torch

from hf_localgan.functional.adversarial import accuracies, critic_loss, discriminator_loss


def test_the_discriminators_loss_by_hand():
    # D(real) = 3/4, D(fake) = 1/4 and 1/2, D(mismatched) = 1/3
    real, fake = torch.tensor([math.log(3.0)]), torch.tensor([-math.log(3.0), 0.0])
    mismatched = torch.tensor([-math.log(2.0)])
    loss = discriminator_loss(real, fake, mismatched, mismatched_weight=2.0)
    torch.testing.assert_close(loss.real, torch.tensor(math.log(4 / 3)))
    torch.testing.assert_close(loss.fake, torch.tensor((math.log(4 / 3) + math.log(2)) / 2))
    torch.testing.assert_close(loss.mismatched, torch.tensor(math.log(1.5)))
    torch.testing.assert_close(loss.total, loss.real + loss.fake + 2 * loss.mismatched)
    without = discriminator_loss(real, fake)
    assert without.mismatched == 0 and torch.equal(without.total, without.real + without.fake)


def test_gradients_are_the_probabilities_missing_and_logits_of_any_size_are_finite():
    real = torch.tensor([2.0, -1e5], requires_grad=True)
    fake = torch.tensor([1e5, -0.5], requires_grad=True)
    discriminator_loss(real, fake).total.backward()
    torch.testing.assert_close(real.grad, (torch.sigmoid(real.detach()) - 1) / 2)
    torch.testing.assert_close(fake.grad, torch.sigmoid(fake.detach()) / 2)


def test_critic_and_accuracies():
    real, fake = torch.tensor([2.0, 4.0, -1.0]), torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(critic_loss(real, fake), torch.tensor(0.0 - 5 / 3))
    torch.testing.assert_close(torch.stack(accuracies(real, fake)), torch.tensor([2 / 3, 1 / 2]))

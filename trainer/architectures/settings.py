"""Which of the article's five models, in which form, and the choices where the article and its authors' code differ.

Knows no TensorFlow, so that commands and tables can name a model without loading it.
"""

from typing import Literal, get_args

import msgspec

ModelName = Literal["ae-decoder", "direct-convolutional", "vae-decoder", "vae-sampler-decoder", "direct-variational"]
MODELS: tuple[ModelName, ...] = get_args(ModelName)
"""The article's models (a) to (e), in its order (II.D)."""

TITLES: dict[ModelName, str] = {
    "ae-decoder": "AE-Decoder",
    "direct-convolutional": "Direct Convolutional",
    "vae-decoder": "VAE-Decoder",
    "vae-sampler-decoder": "VAE-Sampler-Decoder",
    "direct-variational": "Direct Variational",
}
"""How the article writes them."""

Form = Literal["masked", "dense"]
"""Only the cells that BA4 needs, or the whole box as published; the weights are the same."""


class ArchitectureSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes, and what the article and its authors' code say differently (`docs/article-and-us.md`).

    Attributes
    ----------
    latent
        Length of the variational latent vector (II.F found 16).
    final_kernel
        Side of the last convolution's kernel: 3 as in the authors' code, or 1 as in the article's text.
    l1
        Weight of the sum of absolute values of convolution and mapper kernels (II.F).
    kl_weight
        Factor of the KL term of eqs. 9 and 11.
    loss_scale
        ``article``: squared 2-norm (eq. 7) for all models. ``code``: mean squared error over the box, 64^3 times
        smaller, for (a), (b) and the mapper of (c), as the authors' code has it.
    freeze_sampler
        Keep the sampling layer of (d) as the VAE learned it (code) instead of training it again (article).
    batch_norm
        Where (a) and (b) normalise batches: in the mapper and after the decoder's upsamplings (code), in the mapper
        only (article's text), or nowhere.
    """

    latent: int = 16
    final_kernel: Literal[1, 3] = 3
    l1: float = 1e-4
    kl_weight: float = 1.0
    loss_scale: Literal["article", "code"] = "article"
    freeze_sampler: bool = False
    batch_norm: Literal["mapper-and-decoder", "mapper", "none"] = "mapper-and-decoder"

"""The names of the 1000 ImageNet classes, without a download: torchvision carries them beside its weights."""


def class_names() -> tuple[str, ...]:
    """One name a class, all different, in the usual order.

    Where a word means two things one of them is told apart: `crane bird` (134) and `crane` (517), `Cardigan` the dog
    (264) and `cardigan` (474), `maillot` (638) and `maillot tank suit` (639).
    """
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])

"""The names of the 1000 ImageNet classes. They need no download, because torchvision contains them."""


def class_names() -> tuple[str, ...]:
    """Returns one name per class, all different, in the usual order.

    Where two classes share a word, their names still differ: `crane bird` (134) and `crane` (517), `Cardigan` the dog
    (264) and `cardigan` (474), `maillot` (638) and `maillot tank suit` (639).
    """
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])

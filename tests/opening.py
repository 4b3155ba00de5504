"""Images read whole, with their files closed."""

from PIL import Image


def opened(path):
    """The image of a file, loaded; its file is closed."""
    with Image.open(path) as image:
        image.load()
    return image

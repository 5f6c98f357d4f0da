"""The saliency map of a photo, without torch: python onnx_predict.py MODEL.onnx PHOTO MAP.png"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, output = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
side = int(session.get_modelmeta().custom_metadata_map["resolution"])

image = ImageOps.exif_transpose(Image.open(photo))
if image.mode.startswith("I;16"):  # 16-bit grey
    image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
white = Image.new("RGBA", image.size, "white")
image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
square = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))  # uint8 [side, side, 3]
views = np.stack([square, square[:, ::-1]])  # as it is, and mirrored
straight, mirrored = session.run(None, {"images": views})[0]  # float32 [side, side] in [0, 1] each
saliency = (straight + mirrored[:, ::-1]) / 2

grey = Image.fromarray((saliency * 255).round().astype(np.uint8))
grey.resize(image.size, Image.Resampling.BILINEAR).save(output)

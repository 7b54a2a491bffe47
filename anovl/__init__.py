"""A companion to AnoVL: images and words go in, an anomaly map comes out.

    clip  = anovl.load_clip("pocket")
    text  = anovl.encode_prompts(clip, "bottle")
    feats = anovl.encode_images(clip, ["bottle.png"], attention="vv")
    maps  = anovl.anomaly_maps(feats.patches, text, size=(480, 640))

or, all of it at once, `anovl.AnoVL(clip)("bottle.png", "bottle").map`.
"""

import lazy_loader

# The names of __init__.pyi, each loaded when it is first used: torch is not needed for `--help`.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

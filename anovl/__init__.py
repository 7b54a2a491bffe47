"""A companion to AnoVL: images and words go in, an anomaly map comes out.

>>> import anovl
>>> clip = anovl.load_clip("pocket")  # doctest: +SKIP
"""

from anovl.attention import ImageFeatures, attention_weights, encode_images
from anovl.clip import Clip, encode_text, preprocess
from anovl.load import load_clip

try:  # while the team works
    from anovl.adapt import adapt
    from anovl.detector import AnoVL, Localization
    from anovl.maps import abnormal_probability, anomaly_maps, image_scores
    from anovl.prompts import PromptEnsemble, TextFeatures, encode_prompts, prompt_ensemble
    from anovl.views import augmented_views
except ImportError as error:
    print("anovl: still being written:", error)

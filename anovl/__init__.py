"""A companion to AnoVL: images and words go in, an anomaly map comes out.

    clip  = anovl.load_clip("pocket")
    text  = anovl.encode_prompts(clip, "bottle")
    feats = anovl.encode_images(clip, ["bottle.png"], attention="vv")
    maps  = anovl.anomaly_maps(feats.patches, text, size=(480, 640))

or, all of it at once, `anovl.AnoVL(clip)("bottle.png", "bottle").map`.
"""

from anovl.adapt import adapt
from anovl.attention import ImageFeatures, attention_weights, encode_images
from anovl.clip import Clip, encode_text, preprocess
from anovl.data import load_dataset
from anovl.data.dataset import Dataset, Sample
from anovl.detector import AnoVL, Localization
from anovl.evaluation.metrics import aupro, auroc, average_precision, f1_max
from anovl.evaluation.threshold import conformal_threshold
from anovl.images import read_image, read_images
from anovl.maps import anomalous_probability, anomaly_maps, image_scores
from anovl.masks import read_mask
from anovl.models.load import load_clip
from anovl.prompts import PromptEnsemble, TextFeatures, encode_prompts, prompt_ensemble
from anovl.protocols import augmented_views

__all__ = [
    "AnoVL",
    "Clip",
    "Dataset",
    "ImageFeatures",
    "Localization",
    "PromptEnsemble",
    "Sample",
    "TextFeatures",
    "adapt",
    "anomalous_probability",
    "anomaly_maps",
    "attention_weights",
    "augmented_views",
    "aupro",
    "auroc",
    "average_precision",
    "conformal_threshold",
    "encode_images",
    "encode_prompts",
    "encode_text",
    "f1_max",
    "image_scores",
    "load_clip",
    "load_dataset",
    "preprocess",
    "prompt_ensemble",
    "read_image",
    "read_images",
    "read_mask",
]

# The public names, for `__init__.py` and for editors.
from .adapt import adapt
from .attention import ImageFeatures, encode_images
from .baselines.attention_variants import attention_weights
from .cli.panels import overlay
from .clip import Clip, encode_text, preprocess
from .data import load_dataset
from .data.dataset import Dataset, Sample
from .detector import AnoVL, Localization
from .evaluation.metrics import aupro, auroc, average_precision, f1_max
from .evaluation.threshold import calibrate, conformal_threshold
from .images import list_images, read_image, read_images
from .maps import anomalous_probability, anomaly_maps, image_scores
from .masks import read_mask
from .models.load import load_clip
from .prompts import PromptEnsemble, TextFeatures, encode_prompts, prompt_ensemble
from .protocols import augmented_views

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
    "calibrate",
    "conformal_threshold",
    "encode_images",
    "encode_prompts",
    "encode_text",
    "f1_max",
    "image_scores",
    "list_images",
    "load_clip",
    "load_dataset",
    "overlay",
    "preprocess",
    "prompt_ensemble",
    "read_image",
    "read_images",
    "read_mask",
]

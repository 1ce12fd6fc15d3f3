"""Where a classifier looks: Opti-CAM maps and the probes that test them. Every forward pass of a run happens here.

The library face needs torch, torchvision, numpy and scipy alone:

>>> from stages.explain import OptiCam                             # doctest: +SKIP
>>> opticam = OptiCam(model, mean=(.485, .456, .406), std=(.229, .224, .225))   # doctest: +SKIP
>>> result = opticam(images, targets)                              # doctest: +SKIP
>>> result.maps()                                                  # doctest: +SKIP
"""

from stages.explain.network.model import Classifier, ModelSettings, load_classifier
from stages.explain.network.view import ViewSettings
from stages.explain.opticam.opticam import OptiCam, OptiCamSettings, Saliency
from stages.explain.settings import PROFILES

__all__ = [
    "PROFILES",
    "Classifier",
    "ModelSettings",
    "OptiCam",
    "OptiCamSettings",
    "Saliency",
    "ViewSettings",
    "load_classifier",
]

"""Settings of the dataset section of a pipeline's config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from stages.ingest.record import BoxForm

ReaderName = Literal[
    "auto",
    "manifest",
    "imagenet",
    "voc",
    "coco",
    "yolo",
    "folder",
    "huggingface",
    "webdataset",
    "kitti",
    "cvat",
    "fiftyone",
]
FIFTYONE = "fiftyone://"
"""What a path begins with that is the name of a dataset in FiftyOne's database."""

Labels = Literal["auto", "image", "largest_box", "each", "crop"]


@dataclass(frozen=True)
class DatasetSettings:
    """Which dataset, and which part of it. Paths are local or fsspec URLs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    reader: ReaderName = "auto"
    """Format of the dataset; ``auto``: recognised by its files, and the run says by which."""
    path: str = ""
    """The dataset's folder or its file: a manifest, a COCO JSON, a YOLO ``data.yaml``, a tar or Parquet file, ``fiftyone://NAME``
    ..."""
    fields: tuple[str, ...] = ()
    """Of FiftyOne: the field of type Classification or Detections that labels samples, or one of each; by default the
    only one."""
    images: str | None = None
    """Folder of the images, where it is not the dataset's own or beside its annotations."""
    allow_outside: bool = False
    """Follow relative paths (``../``) and links that lead out of the dataset's folder and that of ``images``. Else what
    they lead to is not used: its samples get a status. Absolute paths are always followed."""
    labels: Labels = "auto"
    """What one sample is. ``image``: an image, with the class that the dataset gives it; ``largest_box``: an image,
    with the class of its largest box; ``each``: a class that an image has boxes of, named ``path#class``; ``crop``: an
    object, cut out of its image with its surroundings, named ``path#number``. ``auto``: ``each`` where only boxes have
    classes, else ``image``."""
    crop_context: float = 0.25
    """What ``labels: crop`` leaves around an object on each side, as a share of its width and height."""
    boxes: BoxForm | None = None
    """How boxes are written, where the format does not say or says it wrongly: ``xyxy``, ``xywh``, ``cxcywh``,
    ``yxyx``; ``voc``: corners from 1, both included."""
    relative: bool | None = None
    """Whether boxes are fractions of width and height; by default what the format says, for a manifest pixels."""
    mapping: str | None = None
    """CSV or JSON of label, class: which class of the model a label of the dataset is, where names do not tell."""
    mask: str | None = None
    """Of Hugging Face: the column of pictures in which what is not zero is of the row's label. A manifest's is
    called ``mask``."""
    synsets: str | None = None
    """``LOC_synset_mapping.txt``, line k = class index k: names of WordNet ids; by default beside the dataset."""
    split: str | None = None
    """Take only this split: ``train``, ``val`` ..., as the dataset calls it."""
    truth: str | None = None
    """Parquet of known causes, where the dataset was made with them; only ``audit`` reads it."""
    limit: int | None = None
    """Take a seeded sample of at most this many images."""
    seed: int = 0
    """Seed of that sample."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path is missing; give the dataset's folder or file")
        if not 0 <= self.crop_context <= 100:
            raise ValueError(f"crop_context is {self.crop_context}; take a share such as 0.25")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; take at least 1, or leave it out for all images")

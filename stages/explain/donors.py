"""The donors of a run: samples whose objects are set into other samples' surroundings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from stages.explain.network.view import ViewSettings, render_view
from stages.explain.opticam.opticam import OptiCam
from stages.explain.probes.probes import in_passes
from stages.explain.probes.surroundings import Donors, Part, implanted, whole_parts
from stages.geometry import Boxes
from storage import Run
from storage.media.images import ImageError
from storage.samples import Edges, own_boxes, read_unchanged
from storage.tables import DONORS

A_CLASS, AT_MOST = 4, 64
"""Donors of one class, and of a run."""
_BATCH = 4096
"""Rows of ``samples`` in Python at a time."""
_COLUMNS = ["sample_id", "row", "uri", "digest", "label", "class_index", "boxes", "status"]
"""What of a sample says whether it is a donor."""


@dataclass(frozen=True)
class Donor:
    """A sample that gives its object away."""

    row: int
    uri: str
    digest: str
    class_index: int
    boxes: tuple[Edges, ...]
    """Its own boxes when it was chosen, px of the upright image."""

    def identity(self) -> list[Any]:
        """What a transplant depends on."""
        return [self.row, self.digest, self.class_index, self.boxes]


def settle_donors(run: Run, samples: pa.Table) -> tuple[Donor, ...]:
    """The donors of a run, :func:`find_donors`, kept in its table ``donors``."""
    found = find_donors(run, samples)
    keep_donors(run, found)
    return donors_of(found, samples)


def find_donors(run: Run, samples: pa.Table) -> pa.Table:
    """The table ``donors`` of a run with these samples, chosen when it first has some with boxes; nothing is written.

    New samples, and corrected boxes, leave them as they are. They are chosen anew once one of them is gone or has
    another file or class, and when a run of one class gets its second. Up to :data:`A_CLASS` of a class and
    :data:`AT_MOST` in all, those of lowest digest.
    """
    samples, stored = samples.select(_COLUMNS), _kept(run)
    if _hold(stored.to_pylist(), samples):
        return stored
    return pa.Table.from_pylist(_chosen(samples), schema=DONORS)


def keep_donors(run: Run, donors: pa.Table) -> None:
    """Write the table ``donors`` of a run, and nothing if it has the same."""
    if not _kept(run).equals(donors):
        run.write_table("donors", donors)


def _kept(run: Run) -> pa.Table:
    return run.table("donors") if run.has_table("donors") else DONORS.empty_table()


def classes_without_donor(donors: pa.Table, samples: pa.Table) -> int:
    """How many classes have samples that could be donors and none that is: classes that came after the choice.

    None where there are as many donors as there may be.
    """
    if donors.num_rows >= AT_MOST:
        return 0
    usable = samples.filter((pc.field("status") == "ok") & (pc.list_value_length(pc.field("boxes")) > 0))
    return len(set(usable["class_index"].unique().to_pylist()) - {None, *donors["class_index"].to_pylist()})


def donors_of(table: pa.Table, samples: pa.Table) -> tuple[Donor, ...]:
    """The donors that a table ``donors`` names, with where their files lie now."""
    stored = table.to_pylist()
    uris = {row["row"]: row["uri"] for row in _usable(_rows_of(stored, samples.select(_COLUMNS)))}
    return tuple(
        Donor(
            donor["row"],
            uris[donor["row"]],
            donor["digest"],
            donor["class_index"],
            tuple(own_boxes({**donor, "label": None})),
        )
        for donor in stored
    )


def _hold(stored: Sequence[dict[str, Any]], samples: pa.Table) -> bool:
    """Whether the stored donors are still what they were, and of as many classes as a transplant needs."""
    known = {row["row"]: row for row in _usable(_rows_of(stored, samples))}
    same = all(
        donor["row"] in known and all(donor[name] == known[donor["row"]][name] for name in ("digest", "class_index"))
        for donor in stored
    )
    classes = {donor["class_index"] for donor in stored}
    return same and (len(classes) > 1 or all(row["class_index"] in classes for row in _usable(samples)))


def _chosen(samples: pa.Table) -> list[dict[str, Any]]:
    """Rows of ``donors``: the first of each class by digest, then the second of each, and so on."""
    before: Counter[int] = Counter()
    ranked = []
    for sample in _usable(samples.sort_by([("digest", "ascending"), ("row", "ascending")])):
        rank = before[sample["class_index"]]
        if rank < A_CLASS:
            ranked.append((rank, sample))
        before[sample["class_index"]] += 1
    chosen = [sample for _, sample in sorted(ranked, key=lambda pair: pair[0])][:AT_MOST]
    return [
        {
            **{name: sample[name] for name in ("sample_id", "row", "digest", "class_index")},
            "boxes": [dict(zip(("x0", "y0", "x1", "y1"), box, strict=True), label=None) for box in own_boxes(sample)],
        }
        for sample in chosen
    ]


def _usable(samples: pa.Table) -> Iterator[dict[str, Any]]:
    """The samples that can give an object, one after the other: a run may have millions."""
    for batch in samples.to_batches(_BATCH):
        yield from (row for row in batch.to_pylist() if row["status"] == "ok" and own_boxes(row))


def _rows_of(stored: Sequence[dict[str, Any]], samples: pa.Table) -> pa.Table:
    return samples.filter(pc.field("row").isin([donor["row"] for donor in stored]))


def image_seed(digest: str) -> int:
    """A number that is an image's own, from the SHA-256 of its file."""
    return int(digest[:15], 16)


def load_donors(donors: Sequence[Donor], view: ViewSettings, opticam: OptiCam, batch: int) -> Donors:
    """The donors' objects as the network sees them, with :func:`as_donors`.

    Donors are left out where the view shows none of their boxes, or where the file cannot be decoded or is not the one
    that ingest saw: the sample's own row says so, and ``lacking`` counts these.
    """
    seen, lacking = [], 0
    for donor in donors:
        try:
            pair = _picture(donor, view)
        except ImageError:
            lacking += 1
        else:
            seen += [] if pair is None else [(donor, *pair)]
    views = [picture for _, picture, _ in seen]
    classes, images = [donor.class_index for donor, *_ in seen], [image_seed(donor.digest) for donor, *_ in seen]
    found = as_donors(opticam, views, [part for *_, part in seen], classes, images, view.size, batch)
    return replace(found, lacking=lacking)


@torch.no_grad()
def as_donors(
    opticam: OptiCam,
    views: Sequence[torch.Tensor],
    parts: Sequence[Part],
    classes: Sequence[int],
    images: Sequence[int],
    size: int,
    batch: int,
) -> Donors:
    """Donors from D views, uint8 (3, ``size``, ``size``), and the part of each that is its object.

    Their probabilities alone, and those of a view without anything, take one forward pass of ``batch`` images for each
    ``batch`` of them.
    """
    neutral = opticam.mean[0].expand(3, size, size)
    objects, alone = [], [neutral]
    for view, (x0, y0, x1, y1) in zip(views, parts, strict=True):
        whole = opticam.prepare(view.to(opticam.device, opticam.dtype)[None] / 255)[0]
        objects.append(whole[:, y0:y1, x0:x1])
        alone.append(implanted(neutral, [(x0, y0, x1, y1)], objects[-1]))
    blank, *table = in_passes(opticam.probabilities, alone, batch)
    alone_of = torch.stack(table).cpu() if table else torch.empty(0, len(blank))
    return Donors(objects, classes, images, alone_of, blank)


def _picture(donor: Donor, view: ViewSettings) -> tuple[torch.Tensor, Part] | None:
    """The donor's view, uint8 (3, H, W), and its largest box there; None if the view shows none.

    Raises ImageError for a file that cannot be read, or is not the one that ingest saw.
    """
    image = read_unchanged({"uri": donor.uri, "digest": donor.digest})
    try:
        shown = render_view(image, view)
    except ValueError:  # too thin for the view
        return None
    visible = view.transform(*image.size).visible_boxes(donor.boxes)
    return (torch.from_numpy(shown), largest_part(visible, view.size)) if len(visible) else None


def largest_part(boxes: Boxes, size: int) -> Part:
    """The largest of boxes (n, 4) of a view of ``size`` px, in whole pixels; the first of those alike."""
    largest = int(np.argmax((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)))
    return whole_parts(boxes[largest : largest + 1], size, size)[0]

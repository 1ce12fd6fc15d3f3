"""What is to be said of the masks of a dataset, where they do not say plainly what their objects cover."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from stages.ingest.shapes import Masks
from stages.words import counted
from storage.errors import UserError, shortened


@dataclass
class MaskRemarks:
    """Remarks on masks: how many, and the first with its place in the dataset. ``samples.reason`` has each."""

    faults: int = 0
    """Masks that cannot be used."""
    first_fault: str = ""
    notes: int = 0
    """Masks that hold several numbers, which may be those of classes."""
    first_note: str = ""

    def add(self, place: str, found: Masks) -> None:
        """Take down what was found of one sample's masks."""
        for fault in found.faults:
            self.first_fault = self.first_fault or shortened(f"{place}: {fault}")
            self.faults += 1
        for note in found.notes:
            self.first_note = self.first_note or shortened(f"{place}: {note}")
            self.notes += 1

    def lines(self, samples: pa.Table, *, of_images: bool) -> list[str]:
        """The remarks on the masks of all ``samples``. ``of_images``: the dataset gives masks of whole images.

        Raises UserError where masks of whole images were given, and none can be used.
        """
        made = samples.num_rows - samples["mask"].null_count
        if self.faults and not made and of_images:
            raise UserError(
                f"none of the {self.faults} masks can be used; {self.first_fault}; correct the column "
                "mask, or rename it if it names no masks"
            )
        told = []
        if made:
            have = counted(made, f"of {samples.num_rows} samples has", f"of {samples.num_rows} samples have")
            told.append(f"{have} a mask, which takes the place of their boxes")
        if self.faults:
            masks = counted(self.faults, "mask")
            told.append(f"{masks} cannot be used (samples.reason), the first: {self.first_fault}")
        if self.notes:
            masks = counted(self.notes, "mask holds", "masks hold")
            told.append(
                f"{masks} several numbers, and all but 0 count as the label's; where they are classes, name the "
                f"label's number (a manifest's column mask_value) or give masks of one class each; the first: "
                f"{self.first_note}"
            )
        return told

"""A build's messages in the words of Docker's classic builder, as clients show them.

The last lines, which tell the image's id and names, are the API's matter.
"""

from __future__ import annotations

import codecs

from pannier.base.ids import short
from pannier.build.ports import Report
from pannier.wire.system import Progress


class Output:
    """Writes to a report; when quiet, only if the build fails."""

    def __init__(self, report: Report, *, quiet: bool) -> None:
        self._report = report
        self._quiet = quiet
        self._held: list[Progress] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def progress(self, item: Progress) -> None:
        if self._quiet:
            self._held.append(item)
        else:
            self._report(item)

    def text(self, text: str) -> None:
        self.progress(Progress(stream=text))

    def bytes(self, data: bytes) -> None:
        """What a command wrote; a character may be cut anywhere."""
        text = self._decoder.decode(data)
        if text:
            self.text(text)

    def step(self, number: int, total: int, text: str) -> None:
        self.text(f"Step {number}/{total} : {text}\n")

    def result(self, image_id: str, *, cached: bool = False) -> None:
        if cached:
            self.text(" ---> Using cache\n")
        self.text(f" ---> {short(image_id)}\n")

    def failed(self) -> None:
        """Hand out what was held back, so that the error can be understood."""
        for item in self._held:
            self._report(item)
        self._held.clear()

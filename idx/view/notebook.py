"""CT and slide in a notebook, with one cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idx._optional import require
from idx.case import Case
from idx.errors import FormatError

if TYPE_CHECKING:
    from idx.view.widget import LinkedWidget


def linked(case: Case) -> LinkedWidget:
    """Show a case's CT and slide side by side, with one cursor in both.

    Moving over the slide shows the same place in the CT, and a click in the CT shows its foot on the slide with the
    distance from the slide's plane. The circle's radius is the expected error of the registration.

    Parameters
    ----------
    case : Case
        Without a transform from slide to CT both are shown unlinked, and the viewer says so.

    Returns
    -------
    LinkedWidget
        An anywidget; ``.value`` is the cursor, and the last expression of a cell shows it. Where no widget can run
        (a page on the web), a static picture stands in its place.

    Raises
    ------
    FormatError
        If the case has neither a CT nor a slide.
    MissingDependency
        If the extra "notebook" is not installed.
    """
    require("anywidget", extra="notebook", purpose="the linked viewer")
    from idx.view.widget import LinkedWidget

    if case.ct is None and case.slide is None:
        raise FormatError(f"a case must hold a CT or a slide to be viewed; got neither (case '{case.case_id}'). Add one with case.with_(volumes={{'ct': ct}}).")
    return LinkedWidget(case)

"""The command line: typer over the library's functions, and no logic of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import idx
from idx.errors import IdxError
from idx.settings import use_settings
from idx.table import REASONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idx.demo import Summary
    from idx.io.slides_writing import Compression
    from idx.radiomics import Conformance
    from idx.table import FeatureSpec
    from idx.tiling.converting import Container

EXIT_ERROR = 1
"""Exit code of an error that idx explains; usage errors exit with 2."""
CONSENSUS_LEVELS = ("very strong", "strong", "moderate", "weak", "none", "")
"""Levels of consensus of IBSI; maps and features of IBSI 2 come without."""
ANYWHERE = ("--quiet", "-q", "--debug")
"""Flags that may stand anywhere on the command line."""

app = typer.Typer(
    help="Integrated diagnostics: a patient's CT and the pathology slides of the same lesion in one space. For research only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
radiomics_app = typer.Typer(help="Features of a lesion on CT.", no_args_is_help=True)
histology_app = typer.Typer(help="Features of tissue and nuclei on a slide.", no_args_is_help=True)
app.add_typer(radiomics_app, name="radiomics")
slide_app = typer.Typer(help="Slides as files.", no_args_is_help=True)
app.add_typer(histology_app, name="histology")
app.add_typer(slide_app, name="slide")

Out = Annotated[Path, typer.Option("--out", help="Folder for the results; made where it does not exist.", show_default=True)]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"idx {idx.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Options that stand before the command."""
    context.obj = {"debug": debug}
    context.with_resource(use_settings(progress=not quiet))


@app.command()
def demo(
    out: Out = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of the phantom patient and the cohort.")] = 0,
) -> None:
    """Walk a phantom patient through everything and compare with the truth. Nothing is downloaded."""
    from idx.demo import run_demo

    summary = run_demo(out, seed=seed)
    console = Console()
    console.print("\n[bold]Phantom patient against the truth[/bold] (synthetic: made at run time)")
    for line in _summary_lines(summary):
        console.print(f"  {line}", highlight=False)
    console.print(f"\nReport: {out / 'report.html'}\nSummary: {out / 'summary.json'}", highlight=False, markup=False, soft_wrap=True)


def _summary_lines(s: Summary) -> list[str]:
    placed = (
        f"{s['error_mm']:.2f} mm from the truth (expected {s['error_expected_mm']:.2f} mm)" if s["error_mm"] is not None else f"{s['verdict']}: see the report"
    )
    return [
        f"slide in CT        {placed}",
        f"nuclei             {s['nuclei_found']:,} found, {s['nuclei_planted']:,} planted",
        f"lesion volume      {s['volume_mm3']:,.1f} mm3 measured (mesh), {s['volume_true_mm3']:,.1f} mm3 true",
        f"c-index (cohort)   {s['c_index']:.3f} [{s['c_index_low']:.3f}, {s['c_index_high']:.3f}]",
    ]


@app.command()
def run(
    ct: Annotated[Path, typer.Option("--ct", help="CT: DICOM folder or file, NIfTI, NRRD, MHA/MHD.")],
    mask: Annotated[Path, typer.Option("--mask", help="Lesion: RTSTRUCT, DICOM SEG, NIfTI, NRRD, MHA/MHD.")],
    slide: Annotated[Path, typer.Option("--slide", help="Slide: SVS, TIFF, NDPI, MRXS ..., DICOM folder; a flat image with --mpp.")],
    label: Annotated[str | None, typer.Option("--label", help="Structure of the mask; needed where it holds several.")] = None,
    series: Annotated[str | None, typer.Option("--series", help="Series of a folder that holds several.")] = None,
    mpp: Annotated[float | None, typer.Option("--mpp", help="um per pixel, where the slide's file does not say.")] = None,
    landmarks: Annotated[
        Path | None, typer.Option("--landmarks", help="CSV of pairs slide_x_um, slide_y_um, ct_x_mm, ct_y_mm, ct_z_mm: places the slide in the CT.")
    ] = None,
    tumour: Annotated[Path | None, typer.Option("--tumour", help="Tumour outline on the slide: GeoJSON, ImageScope or ASAP XML.")] = None,
    plane: Annotated[str | None, typer.Option("--plane", help="Grossing note (axial, coronal or sagittal): searches the slide's place from it.")] = None,
    case_id: Annotated[str, typer.Option("--case-id", help="Pseudonym of the patient.")] = "case",
    out: Out = Path("idx-output"),
) -> None:
    """Measure one patient's CT lesion and slide, place the slide where landmarks or a grossing note are given, and write a report."""
    from idx.registration import PosePrior
    from idx.workflow import result_folder, run_patient, write_journey

    result_folder(out)  # before minutes of measuring
    prior = None if plane is None else PosePrior.from_grossing_note(plane)
    journey = run_patient(ct, mask, slide, label=label, series=series, mpp=mpp, landmarks=landmarks, tumour=tumour, prior=prior, case_id=case_id)
    path = write_journey(journey, out)
    console = Console()
    for note in journey.case.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {path}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def info(path: Annotated[Path, typer.Argument(help="CT, mask, slide, contours, table or saved case.")]) -> None:
    """Say what a file or folder is, in words and units."""
    from idx.workflow import describe

    console = Console()
    for name, value in describe(path):
        console.print(f"[bold]{escape(name)}[/bold]  {escape(str(value))}", highlight=False, soft_wrap=True)


@radiomics_app.command("features")
def radiomics_features() -> None:
    """List the radiomic features with units and IBSI codes."""
    from idx.radiomics import feature_specs

    _print_specs("Radiomic features", feature_specs())


@radiomics_app.command("extract")
def radiomics_extract(
    ct: Annotated[Path, typer.Option("--ct", help="CT: DICOM folder or file, NIfTI, NRRD, MHA/MHD.")],
    mask: Annotated[Path, typer.Option("--mask", help="Lesions: RTSTRUCT, DICOM SEG, NIfTI, NRRD, MHA/MHD.")],
    label: Annotated[list[str] | None, typer.Option("--label", help="Structure of the mask; may be given several times.")] = None,
    series: Annotated[str | None, typer.Option("--series", help="Series of a folder that holds several.")] = None,
    quantity: Annotated[str, typer.Option("--quantity", help="What the image holds, where it is not a CT in HU, such as suv or t1w.")] = "hu",
    ibsi: Annotated[str | None, typer.Option("--ibsi", help="IBSI configuration A to E instead of the default settings.")] = None,
    pyradiomics: Annotated[Path | None, typer.Option("--pyradiomics", help="Parameter file of PyRadiomics instead of the default settings.")] = None,
    columns: Annotated[str, typer.Option("--columns", help="Names of the columns: name, ibsi_name, ibsi_code or pyradiomics.")] = "name",
    device: Annotated[str | None, typer.Option("--device", help="Torch device; the default is the setting.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Table: .parquet with units, settings and reasons, or .csv with values only.")] = Path("radiomics.parquet"),
) -> None:
    """Measure the features of one or several lesions and write them as a table."""
    from idx.workflow import measure_lesions

    table = measure_lesions(
        ct, mask, labels=label, series=series, quantity=quantity, ibsi=ibsi, pyradiomics=pyradiomics, columns=columns, device=device, out=out
    )
    console = Console()
    console.print(
        f"{len(table)} lesion(s), {len(table.specs)} features, {len(table.status)} missing cell(s): {out}", highlight=False, markup=False, soft_wrap=True
    )
    for row, feature, reason in table.status.itertuples(index=False):
        console.print(f"missing: {feature} of '{row}': {REASONS[reason]}", highlight=False, markup=False, soft_wrap=True)


@radiomics_app.command("conformance")
def radiomics_conformance(
    data: Annotated[Path, typer.Option("--data", help="Folder with IBSI's references (radiomics/) and phantoms (ct/).")],
    json: Annotated[Path | None, typer.Option("--json", help="File for all counts, misses and measured values.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Torch device; the default is the setting.")] = None,
) -> None:
    """Measure IBSI's phantoms and say which reference values idx meets."""
    from idx.radiomics import conformance

    if json is not None:  # before minutes of measuring
        json.parent.mkdir(parents=True, exist_ok=True)
        json.touch()
    result = conformance(data, device=device)
    if json is not None:
        json.write_text(result.to_json(), encoding="utf-8")
    _print_conformance(result)


def _print_conformance(result: Conformance) -> None:
    console = Console()
    counts = result.by_set()
    levels = [level for level in CONSENSUS_LEVELS if any(level in by_level for by_level in counts.values())]
    table = Table(title="IBSI references, matched of all, by level of consensus", title_justify="left")
    table.add_column("set")
    for level in levels:
        table.add_column(level or "no level given", justify="right")
    for name, by_level in counts.items():
        table.add_row(name, *("{} of {}".format(*by_level[level]) if level in by_level else "" for level in levels))
    console.print(table)
    verdicts = list(result.by_feature().values())
    console.print(f"Features and maps: {verdicts.count('matched')} matched, {verdicts.count('partly')} partly, {verdicts.count('not')} not", highlight=False)
    for check in result.missed:
        where = ", ".join(part for part in (check.reference_set, check.aggregation, check.consensus) if part)
        console.print(
            f"not matched: {check.feature} ({where}): {check.measured} for {check.reference}: {check.reason}", highlight=False, markup=False, soft_wrap=True
        )
    for row in result.errata:
        console.print(f"{row['use']}: {row['feature']} ({row['reference_set']}): {row['evidence']}", highlight=False, markup=False, soft_wrap=True)
    for path in result.absent:
        console.print(f"absent: {path}", highlight=False, markup=False)
    console.print(f"[bold]{result.matched} of {len(result.checks)} references matched[/bold] (idx {idx.__version__}, {result.device})", highlight=False)


@histology_app.command("features")
def histology_features() -> None:
    """List the histology features with units and sources."""
    from idx.histology import feature_specs

    _print_specs("Histology features", feature_specs())


@slide_app.command("convert")
def slide_convert(
    slide: Annotated[Path, typer.Argument(help="SVS, TIFF, NDPI, MRXS ..., DICOM folder; a flat image with --slide-mpp.")],
    out: Annotated[Path, typer.Argument(help="File ending in .tif or .tiff, or a folder without a suffix for a DICOM slide.")],
    mpp: Annotated[float | None, typer.Option("--mpp", help="um per pixel of the result; the default is the slide's own.")] = None,
    bounds_um: Annotated[
        tuple[float, float, float, float] | None, typer.Option("--bounds-um", help="Region: left, top, right and bottom edge in um.", show_default=False)
    ] = None,
    container: Annotated[str | None, typer.Option("--format", help="tiff or dicom; the default goes by OUT.")] = None,
    tile: Annotated[int, typer.Option("--tile", help="Side of a stored tile in px, a multiple of 16.")] = 256,
    compression: Annotated[str, typer.Option("--compression", help="jpeg, jpeg2000, deflate (TIFF only) or none.")] = "jpeg",
    quality: Annotated[int, typer.Option("--quality", help="1 to 100; JPEG 2000 loses nothing at 100.")] = 90,
    levels: Annotated[int | None, typer.Option("--levels", help="Most levels; the default halves until one tile is enough.")] = None,
    slide_mpp: Annotated[float | None, typer.Option("--slide-mpp", help="um per pixel of SLIDE, where its file does not say.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")] = False,
) -> None:
    """Write a slide, or a region of it, as a pyramidal TIFF or a DICOM slide of any resolution."""
    from idx.tiling import convert

    with idx.open_slide(slide, mpp=slide_mpp) as opened:
        convert(
            opened,
            out,
            mpp=mpp,
            bounds_um=bounds_um,
            container=cast("Container | None", container),
            tile_px=tile,
            compression=cast("Compression", compression),
            quality=quality,
            levels=levels,
            overwrite=overwrite,
        )
    console = Console()
    with idx.open_slide(out) as written:
        for name, value in [("written", out), *written.facts()]:
            console.print(f"[bold]{escape(name)}[/bold]  {escape(str(value))}", highlight=False, soft_wrap=True)


def _print_specs(title: str, specs: Sequence[FeatureSpec]) -> None:
    table = Table(title=f"{title} ({len(specs)})", title_justify="left")
    for column in ("name", "unit", "IBSI"):
        table.add_column(column, no_wrap=True)
    table.add_column("definition", overflow="fold")
    for spec in specs:
        table.add_row(spec.name, spec.unit, spec.ibsi_id or "", escape(spec.definition))
    Console().print(table)


def main() -> None:
    """Entry point: an error that idx explains is one sentence and exit code 1."""
    # These hold for every command, so they may stand before or after it.
    flags = [argument for argument in sys.argv[1:] if argument in ANYWHERE]
    debug = "--debug" in flags
    try:
        app(args=[*flags, *(argument for argument in sys.argv[1:] if argument not in ANYWHERE)])
    except (IdxError, OSError) as error:
        if debug:
            raise
        Console(stderr=True).print(f"[bold red]error:[/bold red] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped")
        sys.exit(130)

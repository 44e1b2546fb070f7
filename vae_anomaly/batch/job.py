"""Runs a batch that has been checked: the work folder, the loop over chunks, the outputs."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from vae_anomaly.atomic import atomic_file
from vae_anomaly.batch.chunks import ChunkScorer
from vae_anomaly.batch.digits import table_in_digits
from vae_anomaly.batch.pipeline import InputChangedError, score_chunks
from vae_anomaly.batch.places import Target, is_folder, work_folder
from vae_anomaly.batch.work_folder import WorkFolder
from vae_anomaly.tables.files import STANDARD, reported
from vae_anomaly.tables.paths import Path
from vae_anomaly.tables.writer import csv_lines, finish, lowest_rows


class Plan(NamedTuple):
    """The options of ``score_files`` that do not decide on scores."""

    output: Path
    format: str | None
    only_anomalies: bool
    top: int | None
    digits: int | None
    fdr: float | None
    max_bad_rows: int | None
    summary: Path | None
    resume: bool
    progress: Callable | None


def run_job(
    scoring: ChunkScorer,
    plan: Plan,
    targets: Sequence[Target],
    quarantines: Sequence[pathlib.Path],
) -> dict[str, Any]:
    """Do the work of ``score_files`` once all has been checked; return the summary."""
    to_stdout = str(plan.output) == STANDARD
    resumable = not to_stdout and STANDARD not in scoring.paths
    if is_folder(plan.output):
        os.makedirs(plan.output, exist_ok=True)
    folder = tempfile.mkdtemp() if to_stdout else work_folder(plan.output)
    with WorkFolder(folder, _job(scoring, plan), resume=plan.resume) as work:
        tally = scoring.tally(work.state["tally"])
        try:
            if not work.state["done"]:
                score_chunks(
                    scoring,
                    work,
                    targets,
                    quarantines,
                    tally,
                    only_anomalies=plan.only_anomalies,
                    top=plan.top,
                    digits=plan.digits,
                    max_bad_rows=plan.max_bad_rows,
                    progress=plan.progress,
                )
                work.commit(done=True)
            report = tally.report()
            report["warnings"] = [*scoring.warnings, *report["warnings"]]
            _write(scoring, work, plan, targets, quarantines, report)
        except BaseException as error:
            if not (resumable and work.is_started()) or isinstance(error, InputChangedError):
                work.remove()
            raise
        work.remove()
    return report


def _job(scoring: ChunkScorer, plan: Plan) -> dict[str, Any]:
    """Return all that decides on the outputs; only the same job can be resumed."""
    decisive = scoring.job()
    known = zip(scoring.paths, scoring.identities, strict=True)
    return {
        "inputs": [[path, *identity] for path, identity in known],
        **decisive,
        "options": [
            str(plan.output),
            plan.format,
            plan.only_anomalies,
            plan.top,
            plan.digits,
            plan.fdr,
            decisive["options"],
        ],
        "versions": [importlib.metadata.version(name) for name in ("vae-anomaly", "tensorflow")],
    }


def _write(scoring: ChunkScorer, work: WorkFolder, plan: Plan, targets, quarantines, report):
    """Write all files; the outputs last: where they are, all is there."""
    for index, path in enumerate(dict.fromkeys(quarantines)):
        _write_quarantine(path, work.path(f"quarantine-{index}"), scoring.quarantine_header)
    if plan.summary is not None:
        with reported(plan.summary, "write"), atomic_file(plan.summary) as file:
            file.write(json.dumps(report, indent=1).encode())
    shortened = functools.partial(table_in_digits, digits=plan.digits)
    for index, target in enumerate(targets):
        rows = work.path(f"rows-{index}")
        if rows.exists():
            if scoring.maps and plan.top:
                scoring.maps.draw_again(lowest_rows(rows, plan.top))
            text = {} if target.format == "parquet" else {"written": shortened}
            finish(rows, target.path, target.format, top=plan.top, **text)


def _write_quarantine(path, rows, header):
    is_done = not rows.exists()  # by a run that was killed while it tidied up
    if is_done or not (rows.stat().st_size or os.path.exists(path)):
        return
    with reported(path, "write"), rows.open("rb") as source, atomic_file(path) as file:
        file.write(csv_lines([header]))
        shutil.copyfileobj(source, file)

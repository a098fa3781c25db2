"""What a run, or a study, leaves at its end: metrics.json, its figures, and lines on its claims.

What may be added: another thing that is made of the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstruct.data.regular_files import check_regular
from jaxstruct.training import parallel
from jaxstruct.training.errors import RunError
from jaxstruct.training.experiment import Claim
from jaxstruct.training.progress import Progress
from jaxstruct.training.results import judged_claims, summary
from jaxstruct.training.workdir import write_json


def write_outcome(
    folder: Path,
    results: Mapping[str, Any],
    figures: Callable[[Any], Mapping[str, Any]] | None,
    finished: Any,
    claims: Sequence[Claim],
    progress: Progress,
) -> None:
    """Writes metrics.json, draws `figures(finished)`, and says numbers and verdicts.

    Every process calls it and draws, since a figure may need what all of them measure together. The
    first alone writes and speaks; of the others, `results` are not read.

    Raises RunError where a file cannot be written, and what `figures` raises.
    """
    # Written before the figures: a mistake in drawing must not cost the scoring.
    if parallel.is_first():
        write_json(folder / "metrics.json", results)
    drawn = figures(finished) if figures else {}
    if not parallel.is_first():
        return
    for name, figure in drawn.items():
        path = folder / "figures" / f"{name}.png"
        try:
            path.parent.mkdir(exist_ok=True)
            if path.exists():
                check_regular(path)
            figure.savefig(path)
        except OSError as error:
            raise RunError(
                f"cannot write {path} ({error.strerror or error}); the results are in "
                "metrics.json: start again when it can be written, to draw alone"
            ) from error
        progress.say(f"drew {path}")
    told = judged_claims(claims, results["config"], results["metrics"])
    for line in (summary(results["metrics"]), *told, f"results in {folder / 'metrics.json'}"):
        if line:
            progress.say(line)

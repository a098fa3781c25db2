"""What a run, or a study, leaves at its end: metrics.json, its figures, and lines on its claims.

What may be added: another thing that is made of the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxstruct.data.regular_files import check_regular
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

    Raises RunError where a file cannot be written, and what `figures` raises.
    """
    # Written before the figures: a mistake in drawing must not cost the scoring.
    write_json(folder / "metrics.json", results)
    for name, figure in (figures(finished) if figures else {}).items():
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

"""Compares what was measured with what the spec asks for."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation

from model_builders.errors import Refused
from model_builders.messages import Json


def check_metric_names(quality: Sequence[Json], known: Mapping[str, str]) -> None:
    """Before anything is built: raises Refused (`ParameterInvalid`) naming every bound that can never be
    checked."""
    problems = []
    for index, bound in enumerate(quality):
        if bound.get("metric") not in known:
            problems.append(
                f"spec.build.quality[{index}].metric is {bound.get('metric')!r}; measured are "
                f"{', '.join(known)}"
            )
        for side in ("atLeast", "atMost"):
            if side in bound and parse_decimal(bound[side]) is None:
                problems.append(
                    f"spec.build.quality[{index}].{side} is {bound[side]!r}; it must be a "
                    f"decimal such as '0.25'"
                )
    if problems:
        raise Refused("ParameterInvalid", f"{'; '.join(problems)}.")


def check_quality(quality: Sequence[Json], metrics: Mapping[str, float]) -> None:
    """Raises Refused (`QualityBelowFloor`) naming every bound that does not hold, or (`ParameterInvalid`) a
    metric that the inputs left unmeasured.

    A number that is not finite passes none.
    """
    missed = []
    for bound in quality:
        name = str(bound["metric"])
        if name not in metrics:
            raise Refused(
                "ParameterInvalid",
                f"spec.build.quality has a bound for {name}, which was not measured for want of an input; "
                f"measured were {', '.join(metrics)}.",
            )
        found = metrics[name]
        lowest, highest = parse_decimal(bound.get("atLeast")), parse_decimal(bound.get("atMost"))
        if lowest is not None and not (math.isfinite(found) and to_decimal(found) >= lowest):
            missed.append(f"{name} is {as_text(found)}, at least {lowest} was asked for")
        if highest is not None and not (math.isfinite(found) and to_decimal(found) <= highest):
            missed.append(f"{name} is {as_text(found)}, at most {highest} was asked for")
    if missed:
        raise Refused(
            "QualityBelowFloor",
            f"The model was built but is not good enough: {'; '.join(missed)}. Change the data, "
            f"the parameters or the bound.",
        )


def to_decimal(value: float) -> Decimal:
    """As the number is shown, so that what a user reads as 0.25 is at least 0.25."""
    return Decimal(as_text(value))


def as_text(value: float) -> str:
    """A metric as a string in the status: whole numbers without a point, others with at most six decimals, or
    two digits when they are smaller than that; never an exponent."""
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer():
        return str(int(value))
    if abs(value) < 1e-5:
        return f"{Decimal(f'{value:.1e}'):f}"
    return f"{value:.6f}".rstrip("0").rstrip(".")


def parse_decimal(value: object) -> Decimal | None:
    """A bound of the spec as a number; None when it is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None

"""Validate a report that was read: against the JSON Schema in the package, and for what a schema cannot express.

It covers the keywords that `report.schema.json` uses, and checks lists of numbers all at once: a report may hold
hundreds of thousands of units. Unknown keys are accepted: a later version may write them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

from deadrelu.text.wording import count

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_MOST = 1 << 64
_PER_UNIT = ("firing_rate", "sample_rate", "max_preactivation", "mean_activation", "dormancy")
_OPTIONAL = ("min_preactivation", "weight_in", "weight_out", "gradient_rms", "gradient_score")
_UNIT_LISTS = ("dead_units", "rare_units", "always_on_units", "nonfinite_units")
_SATURATED = ("saturated_units", "saturated_high_units")


def check_report(data: Mapping[str, Any]) -> None:
    """Raise `ValueError`, which says what is wrong and where, unless `data` is a report of schema version 1."""
    schema = _schema()
    _check(dict(data), schema, schema, "the report")
    for number, site in enumerate(data["sites"]):
        _check_site(site, f"sites[{number}]")
        _check_definition(site, data["settings"].get("definition"), f"sites[{number}]")
    _check_unique([site["id"] for site in data["sites"]], "site")
    _check_unique([site["id"] for site in data["skipped"]], "skipped site")
    _check_unique([site["id"] for site in data.get("leaky", ())], "leaky site")
    _check_findings(data)
    _check_summary(data)


@lru_cache(maxsize=1)
def _schema() -> Mapping[str, Any]:
    """The JSON Schema of reports."""
    found: Mapping[str, Any] = json.loads(files("deadrelu").joinpath("report.schema.json").read_text(encoding="utf-8"))
    return found


def _check(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    """Check a value against one part of the schema."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "oneOf" in schema:
        _check_either(value, schema["oneOf"], root, where)
    if "const" in schema and value != schema["const"]:
        raise ValueError(f"{where} is {_shown(value)}, not {schema['const']}")
    if "enum" in schema and not any(type(value) is type(known) and value == known for known in schema["enum"]):
        raise ValueError(f"{where} is {_shown(value)}, not one of {', '.join(map(str, schema['enum']))}")
    if "type" in schema:
        _check_scalars([value], schema, where)
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        raise ValueError(f"{where} is {_shown(value)}, which does not match {schema['pattern']}")
    if isinstance(value, dict):
        _check_members(value, schema, root, where)
    elif isinstance(value, (list, tuple)) and "items" in schema:
        _check_items(value, schema, root, where)


def _check_either(value: Any, schemas: Sequence[Mapping[str, Any]], root: Mapping[str, Any], where: str) -> None:
    """Check that a value fits one of the schemas; the error is that of the last one."""
    for schema in schemas[:-1]:
        try:
            return _check(value, schema, root, where)
        except ValueError:
            continue
    _check(value, schemas[-1], root, where)
    return None


def _check_members(value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    """Check the members of an object."""
    missing = [key for key in schema.get("required", ()) if key not in value]
    if missing:
        raise ValueError(f"{where} has no {missing[0]!r}")
    known, other = schema.get("properties", {}), schema.get("additionalProperties")
    for key, inner in value.items():
        if key in known:
            _check(inner, known[key], root, f"{where}.{key}")
        elif isinstance(other, dict):
            _check(inner, other, root, f"{where}[{_shown(key)}]")


def _check_items(values: Sequence[Any], schema: Mapping[str, Any], root: Mapping[str, Any], where: str) -> None:
    """Check the items of an array; scalars all at once."""
    items = schema["items"]
    if "type" in items and not {"object", "array"} & set(_names(items)) and "pattern" not in items:
        _check_scalars(values, items, f"an entry of {where}")
    else:
        for number, inner in enumerate(values):
            _check(inner, items, root, f"{where}[{number}]")
    if schema.get("uniqueItems") and len(set(values)) < len(values):
        raise ValueError(f"{where} lists an entry twice")


def _check_scalars(values: Sequence[Any], schema: Mapping[str, Any], where: str) -> None:
    """Check the types of values; numbers must be finite and in range."""
    names = _names(schema)
    allowed = {kind for name in names for kind in _TYPES[name]}
    kinds = set(map(type, values))
    if wrong := kinds - allowed:
        value = next(value for value in values if type(value) in wrong)
        raise ValueError(f"{where} is {_shown(value)}, not of type {' or '.join(names)}")
    fractions = values if kinds == {float} else [value for value in values if type(value) is float]
    whole = [value for value in values if type(value) is int] if int in kinds else []
    if not all(map(math.isfinite, fractions)):
        raise ValueError(f"{where} is not finite")
    for numbers, bound in ((fractions, math.inf), (whole, _MOST)):
        least, most = schema.get("minimum", -bound), schema.get("maximum", bound)
        if numbers and not least <= min(numbers) <= max(numbers) <= most:
            raise ValueError(
                f"{where} is {_shown(min(numbers) if min(numbers) < least else max(numbers))}, out of range"
            )


def _names(schema: Mapping[str, Any]) -> list[str]:
    """Return the types that a schema allows."""
    named = schema["type"]
    return [named] if isinstance(named, str) else list(named)


def _check_site(site: Mapping[str, Any], where: str) -> None:
    """Check that the figures of one site agree with each other."""
    units = site["units"]
    for key in (*_PER_UNIT, *filter(site.get, _OPTIONAL)):
        if len(site[key]) != units:
            raise ValueError(
                f"{where}.{key} has {count(len(site[key]), 'entry', 'entries')} for {count(units, 'unit')}"
            )
    for key in (*_UNIT_LISTS, *_SATURATED, "zero_gradient_units"):
        _check_units(site.get(key, ()), units, f"{where}.{key}")
    saturated, high = (set(site.get(key, ())) for key in _SATURATED)
    if site.get("saturated", 0) != len(saturated) or not high <= saturated:
        raise ValueError(f"{where} counts {count(site.get('saturated', 0), 'saturated unit')} and lists others")
    if not saturated.isdisjoint((*site["dead_units"], *site["nonfinite_units"])):
        raise ValueError(f"{where} lists a unit as saturated that is dead or met NaN or infinity")
    roots = site.get("gradient_rms", ())
    if any(roots[unit] != 0 if roots else True for unit in site.get("zero_gradient_units", ())):
        raise ValueError(f"{where} lists a unit without a gradient whose gradient is not 0")
    if site["dead"] != len(site["dead_units"]) or not _same(site["dead_fraction"], site["dead"] / units):
        raise ValueError(f"{where} counts {count(site['dead'], 'dead unit')} and lists {len(site['dead_units'])}")
    rates = site["firing_rate"]
    if not set(site["dead_units"]).isdisjoint(site["nonfinite_units"]) or any(
        rates[u] != 0 for u in site["dead_units"]
    ):
        raise ValueError(f"{where} lists a unit as dead that fired or met NaN or infinity")
    for name in ("born_dead_units", "proved_units", "woken_units"):
        if not {*site.get(name, ())} <= {*site["dead_units"]}:
            raise ValueError(f"{where}.{name} lists a unit that is not dead")
    if {*site.get("proved_units", ())} & {*site.get("woken_units", ())}:
        raise ValueError(f"{where}.woken_units lists a unit that is proved dead")
    if "causes" in site and [cause["unit"] for cause in site["causes"]] != list(site["dead_units"]):
        raise ValueError(f"{where}.causes are not those of its dead units")


def _check_definition(site: Mapping[str, Any], definition: object, where: str) -> None:
    """Check that what is dead by another definition goes with the settings and with the units."""
    found = site.get("definition_units")
    if (found is None) != (definition is None):
        raise ValueError(f"{where}.definition_units does not go with the definition {_shown(definition)}")
    _check_units(found or (), site["units"], f"{where}.definition_units")
    if not set(found or ()).isdisjoint(site["nonfinite_units"]):
        raise ValueError(f"{where} lists a unit as dead by {definition} that met NaN or infinity")
    if any(rung["units"] > site["units"] for rung in site.get("definition_ladder", ())):
        raise ValueError(f"{where}.definition_ladder counts more than {count(site['units'], 'unit')}")


def _check_units(numbers: Sequence[int], units: int, where: str) -> None:
    """Check that the site has all of these units."""
    if numbers and max(numbers) >= units:
        raise ValueError(f"{where} names unit {max(numbers)} of {count(units, 'unit')}")


def _check_unique(names: Sequence[str], what: str) -> None:
    """Check that no name occurs twice."""
    if len(set(names)) < len(names):
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ValueError(f"the {what} {_shown(name)} is listed twice")
            seen.add(name)


def _check_findings(data: Mapping[str, Any]) -> None:
    """Check that findings name sites and units of the report, and that the verdict follows from them."""
    units = {site["id"]: site["units"] for site in data["sites"]}
    skipped = {site["id"] for site in data["skipped"]}
    for number, finding in enumerate(data["findings"]):
        site = finding["site"]
        if site in units:
            _check_units(finding["units"], units[site], f"findings[{number}].units")
        elif site is not None and site not in skipped:
            raise ValueError(f"findings[{number}] is about {_shown(site)}, which is not a site of the report")
        elif finding["units"]:
            raise ValueError(f"findings[{number}] names units of no measured site")
    failed = any(finding["severity"] == "error" for finding in data["findings"])
    is_all_leaky = bool(data.get("leaky")) and not units and not skipped
    is_known = is_all_leaky or any(site.get("feature_axis_by") != "guess" for site in data["sites"])
    verdict = "pass" if is_known else "nothing measured"
    if failed and (units or is_all_leaky):
        verdict = "fail"
    if data["summary"]["verdict"] != verdict:
        raise ValueError(f"the verdict is {_shown(data['summary']['verdict'])}, but the findings give {verdict!r}")


def _check_summary(data: Mapping[str, Any]) -> None:
    """Check that the summary is the sum over the sites."""
    sites, summary = data["sites"], data["summary"]
    units, dead = _sum(sites, "units"), _sum(sites, "dead")
    right = {
        "sites": len(sites),
        "skipped": len(data["skipped"]),
        "units": units,
        "dead": dead,
        "rare": sum(len(site["rare_units"]) for site in sites),
        "always_on": sum(len(site["always_on_units"]) for site in sites),
    }
    for key, number in right.items():
        if summary[key] != number:
            raise ValueError(f"summary.{key} is {summary[key]}, but the sites have {number}")
    if not _same(summary["dead_fraction"], dead / units if units else 0.0):
        raise ValueError(
            f"summary.dead_fraction is {summary['dead_fraction']}, with {dead} of {count(units, 'unit')} dead"
        )


def _sum(sites: Iterable[Mapping[str, Any]], key: str) -> int:
    """Sum a count over all sites."""
    return sum(site[key] for site in sites)


def _same(a: float, b: float) -> bool:
    """Whether two fractions are equal up to rounding."""
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _shown(value: Any) -> str:
    """Show a value in an error message."""
    if isinstance(value, dict):
        return "an object"
    return "an array" if isinstance(value, (list, tuple)) else repr(value)[:80]

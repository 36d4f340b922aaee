"""The command that shows and sets the operating threshold."""

import getpass
import math
from typing import Annotated, Any

import typer

from my_platform.commands.console import Json, complain, print_json, settings_of_call, show_table
from my_platform.errors import PlatformError
from my_platform.learning.words import WORDS, Words
from my_platform.settings import Settings

_CHECKS_SHOWN = (10, 20, 50, 100, 200, 500)


def threshold(
    use: Annotated[str | None, typer.Argument(help="What the model is for; default: the only one.")] = None,
    checks: Annotated[
        float | None, typer.Option(help="Set it by capacity: how many can be checked in a day.")
    ] = None,
    cost_of_check: Annotated[
        float | None, typer.Option(help="Set it by cost: of one check, in units of the rows' amounts.")
    ] = None,
    cost_of_miss: Annotated[
        float | None, typer.Option(help="With that: of one miss, beside the share of its amount.")
    ] = None,
    share_of_amount: Annotated[
        float | None, typer.Option(help="With that: the share of a miss's amount that is lost.")
    ] = None,
    score: Annotated[float | None, typer.Option(help="Set it to this probability.")] = None,
    of_bundle: Annotated[
        bool, typer.Option("--of-bundle", help="Set it to the threshold that each bundle comes with.")
    ] = False,
    why: Annotated[str, typer.Option(help="Why it is set; it is kept in the ledger.")] = "",
    as_json: Json = False,
) -> None:
    """The operating threshold, and what each choice of it costs; with one of the choices it is set, without a redeploy."""
    from my_platform.learning.bundle import read_bundle
    from my_platform.learning.registry_place import RegistryPlace

    settings = settings_of_call()
    place = RegistryPlace.of(settings)
    promotions = place.promotions()
    use = promotions.use_named(use)
    champion = promotions.standing(use).champion
    assert champion is not None
    about = read_bundle(place.bundles, champion.bundle).about
    if not about["operating_threshold"]["looked_at_a_day"]:
        raise PlatformError(f"nothing is looked at by the scores of {use}: they have no operating threshold")
    ledger = place.thresholds()
    policy = _policy(checks, cost_of_check, cost_of_miss, share_of_amount, score, of_bundle)
    if policy is not None:
        if not why.strip():
            raise PlatformError("the ledger keeps who chose a threshold and why: say it with --why")
        ledger.choose(use, policy, who=getpass.getuser(), why=why)
    found = told_of(ledger.present(use), about)
    if as_json:
        print_json({"use": use, "champion": f"{champion.model}@{champion.week}", **found})
        return
    rows = [
        [
            name,
            _number(choice["score"], ".4f"),
            *(_number(choice[each], ",.1f") for each in ("checks_a_day", "negatives_a_day")),
            *(_number(choice[each], ".1%") for each in ("precision", "positives_caught", "amount_caught")),
            choice["note"],
        ]
        for name, choice in found["choices"].items()
    ]
    words = _words(settings, use)
    header = [
        "policy",
        "score",
        f"{words.clusters} a day",
        f"of them {words.negative}",
        "precision",
        f"{words.positives} caught",
        "amount caught",
        "",
    ]
    show_table(header, rows)
    present = found["present"]
    if present["version"]:
        typer.echo(f"version {present['version']}, by {present['who']} at {present['at']}: {present['why']}")
    if note := found["choices"]["present"]["note"]:
        complain(note)


def told_of(chosen: Any, about: Any) -> dict[str, Any]:
    """The policy that counts, and what it and others mean for a bundle, by what the bundle says of itself."""
    from my_platform.learning.thresholds import ByBundle, ByChecks, curve_of, resolve

    curve = curve_of(about)
    others = {f"{number} checks": ByChecks(number) for number in _CHECKS_SHOWN} if curve else {}
    choices = {}
    for name, policy in {"present": chosen.policy, "of the bundle": ByBundle(), **others}.items():
        found = resolve(policy, about)
        choices[name] = {
            "score": found.score if math.isfinite(found.score) else None,
            "note": found.note,
            **_figures(curve, found.score),
        }
    return {"present": chosen.as_json(), "tested_days": curve.days if curve else None, "choices": choices}


def _words(settings: Settings, use: str) -> Words:
    """What a use calls what is looked at."""
    from my_platform.operations.home import load_project

    return next((each.words for each in load_project(settings).contenders if each.use == use), WORDS)


def _figures(curve: Any, score: float) -> dict[str, float | None]:
    names = ("checks_a_day", "negatives_a_day", "precision", "positives_caught", "amount_caught")
    if curve is None:
        return dict.fromkeys(names)
    point, every = curve.at(score), curve.points[-1]
    values = (
        point.clusters / curve.days,
        (point.clusters - point.positives) / curve.days,
        point.positives / point.clusters if point.clusters else None,
        point.positives / every.positives if every.positives else None,
        point.positive_cents / every.positive_cents if every.positive_cents else None,
    )
    return dict(zip(names, values, strict=True))


def _policy(
    checks: float | None,
    check: float | None,
    miss: float | None,
    share: float | None,
    score: float | None,
    of_bundle: bool,
) -> Any:
    """The one policy that the options choose; None where they choose none."""
    from my_platform.learning.thresholds import ByBundle, ByChecks, ByCost, ByScore

    of_miss = miss is not None or share is not None
    if of_miss and check is None:
        raise PlatformError("--cost-of-miss and --share-of-amount go with --cost-of-check: give that too")
    if check is not None and not of_miss:
        raise PlatformError(
            "--cost-of-check goes with --cost-of-miss or --share-of-amount: give one of them too"
        )
    found = [
        *([ByChecks(checks)] if checks is not None else []),
        *([ByCost(check, miss or 0.0, share or 0.0)] if check is not None else []),
        *([ByScore(score)] if score is not None else []),
        *([ByBundle()] if of_bundle else []),
    ]
    if len(found) > 1:
        raise PlatformError("there is one threshold: choose by --checks, by costs, by --score or --of-bundle")
    return found[0] if found else None


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)

"""What training scripts wrap around a state dict: dictionaries, and prefixes of the names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

# In order of preference: averaged weights first, then a generator's own, then what may be anything.
_CONTAINERS = (
    *("params_ema", "ema_state_dict", "state_dict_ema", "g_ema", "G_ema", "net_g_ema", "netG_ema", "generator_ema"),
    *("gen_ema", "model_ema", "ema_model", "ema", "shadow", "params", "state_dict"),
    *("generator", "generator_state_dict", "gen", "gen_state_dict", "g", "G", "g_state_dict", "G_state_dict"),
    *("netG", "netG_state_dict", "net_G", "net_g", "net_g_state_dict", "g_model", "model_g", "G_model"),
    *("model_state_dict", "model", "net", "network", "module", "weights", "best_model", "best"),
)
_PREFIXES = ("module.", "_orig_mod.", "netG.", "generator.")
# First parts of names, in lower case and without underscores. Averaged weights come first here, too.
_AVERAGED = ("gema", "netgema", "generatorema", "genema", "emamodel", "modelema", "emag", "ema", "averagemodel")
_GENERATORS = ("netg", "g", "gen", "generator", "gmodel", "modelg", "gnet", "generatornet")
_ANY = ("model", "net", "network", "module", "origmod", "backbone", "student", "sr", "srmodel", "srnet")
_RANKS = (_AVERAGED, _GENERATORS, _ANY)
_ANY_RANK = 2
_OTHERS = ("d", "netd", "disc", "critic", "loss", "crit", "vgg", "lpips", "percep", "feature", "metric", "dmodel")
_DEPTH = 5


def unwrap(found: Mapping[str, object]) -> Mapping[str, object]:
    """The state dict inside the dictionaries that training scripts wrap around it; averaged weights are preferred."""
    for _ in range(_DEPTH):
        inside = [found[key] for key in _CONTAINERS if isinstance(found.get(key), Mapping)]
        inner = next((item for item in inside if _holds_tensors(item)), inside[0] if inside else None)
        if inner is None:
            break
        assert isinstance(inner, Mapping)
        found = inner
    return found


def tensors_of(found: Mapping[str, object]) -> dict[str, Tensor]:
    """The tensors of a dictionary by name; where it has none itself, those of the dictionaries in it, by dotted name.

    The state of an optimiser, whose keys are numbers, is none of them.
    """
    own = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if any(value.is_nested or value.ndim > 1 for value in own.values()):
        return own
    return dict(_nested(found, _DEPTH)) or own  # a state of a random number generator is a vector


def strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers (DataParallel, torch.compile, a GAN of two networks) add to the names.

    Where only some names have the prefix of a generator, the others belong to other networks and are dropped.
    """
    tensors = dict(tensors)
    changed = True
    while changed:
        changed = False
        for prefix in _PREFIXES:
            inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            if inner and (len(inner) == len(tensors) or prefix in ("netG.", "generator.")):
                tensors, changed = inner, True
    return tensors


def without_common(found: Mapping[str, object]) -> Mapping[str, object]:
    """The names without a first part that all share and that says nothing: ``model.netG_A.…`` is ``netG_A.…``."""
    firsts = {str(name).partition(".")[0] for name, value in found.items() if isinstance(value, Tensor)}
    if len(firsts) != 1 or _plain(first := firsts.pop()) not in _ANY:
        return found
    return {str(name).removeprefix(f"{first}."): value for name, value in found.items() if isinstance(value, Tensor)}


def networks(state: Mapping[str, Tensor], depth: int = _DEPTH) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The networks that a state dict may hold under prefixes, the most likely generator first.

    Args:
        state: tensors by name.
        depth: how many prefixes may be nested.

    Yields:
        A prefix with its dot, and the tensors under it without the prefix. One that does not say "generator" is one
        only where the other names are of discriminators and losses.
    """
    if not depth:
        return
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        first, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(first, {})[rest] = value
    known = {first: rank for first in groups if (rank := _rank(first)) is not None}
    unknown = [first for first in groups if first not in known and not _is_other(first)]
    alone = not any("." not in name and value.numel() > 1 for name, value in state.items())
    if unknown or not alone:  # a part of a network may have such a name
        known = {first: rank for first, rank in known.items() if rank < _ANY_RANK}
    if not known and len(unknown) == 1 and alone and not unknown[0].isdigit():
        known = {unknown[0]: 0}
    for first in sorted(known, key=lambda name: known[name]):
        yield f"{first}.", groups[first]
        for prefix, inner in networks(groups[first], depth - 1):
            yield f"{first}.{prefix}", inner


def _rank(first: str) -> int | None:
    for rank, names in enumerate(_RANKS):
        if _plain(first) in names:
            return rank
    return None


def _is_other(first: str) -> bool:
    plain = _plain(first)
    return plain in _OTHERS or plain.startswith(("disc", "netd", "critic", "loss", "perc", "vgg", "lpips", "featur"))


def _plain(first: str) -> str:
    return first.lower().replace("_", "")


def _holds_tensors(found: object, depth: int = _DEPTH) -> bool:
    if isinstance(found, Tensor):
        return True
    return depth > 0 and isinstance(found, Mapping) and any(_holds_tensors(v, depth - 1) for v in found.values())


def _nested(found: Mapping[str, object], depth: int) -> Iterator[tuple[str, Tensor]]:
    for key, value in found.items():
        if not isinstance(key, str) or _is_optimiser(key):
            continue
        if isinstance(value, Tensor):
            yield key, value
        elif isinstance(value, Mapping) and depth:
            yield from ((f"{key}.{name}", item) for name, item in _nested(value, depth - 1))


def _is_optimiser(key: str) -> bool:
    return any(word in key.lower() for word in ("optim", "sched", "scaler", "callback", "rng"))

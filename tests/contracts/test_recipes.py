"""The contract of all recipes, and for each of its rules a recipe that breaks it and is found out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_pages import meanings

from retrodict import check as checking
from retrodict import contract
from retrodict.check import Finding, check, header, load_recipe, recipes
from retrodict.clip import Clip
from retrodict.contract import Broken
from retrodict.errors import NoLikelihood, UnknownName, UnusableInput
from retrodict.roles import View
from retrodict.run.loop import Fit
from retrodict.spaces import ActionSpace, Distribution, Segment, categorical, continuous

RULES = (
    "header", "config", "presets", "results", "system", "shapes", "learns", "seed", "resume", "randomness", "folder"
)  # fmt: skip


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_keeps_the_contract(name: str) -> None:
    findings = check(name)
    assert tuple(finding.name for finding in findings) == RULES
    assert not [finding for finding in findings if not finding.ok]


GOOD = '''"""Small: the smallest recipe that keeps the contract.

Claim   it learns something
Tiny    a second a seed
Paper   none; this is a test
        of the contract
Run     retrodict train small.py --data D --out RUN
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
import random

import torch

from retrodict import rng
from retrodict.models.losses import cloning
from retrodict.models.policy import ClipPolicy
from retrodict.roles import System, View
from retrodict.run.loop import Fit
from retrodict.run.run import Run


@dataclass(frozen=True)
class Config:
    """Settings."""

    # channels of a frame (own)
    channels: int = 3
    width: int = 4  # channels (own)
    fit: Fit = field(default_factory=lambda: Fit(8, 8))


def micro() -> Config:
    return Config()


def tiny() -> Config:
    return Config(width=8)


def paper() -> Config:
    return Config(width=16)


def build(cfg: Config, run: Run) -> ClipPolicy:
    data = run.data.labelled
    with rng.isolated(run.seed, "policy"):
        return ClipPolicy(View(size=data.cache.size), data.cache.space, patch=9, width=cfg.width, depth=1, hidden=16)


def loss(policy, clip, noise):
    return cloning(policy, clip, noise)


def train(cfg: Config, run: Run) -> System:
    policy = run.fit("policy", build(cfg, run), loss, run.data.labelled, cfg.fit)
    return System(policy=policy)
'''
LOSS, TRAIN = "    return cloning(policy, clip, noise)\n", "    policy = run.fit("
BREAKS = {
    "header": ("Paper   none", "Paper:  none", "lacks paper"),
    "config frozen": ("(frozen=True)", "", "must be frozen"),
    "config explained": ("  # channels (own)", "", "width"),
    "presets": ("def paper()", "def long()", r"function paper\(\)"),
    "presets of another kind": ("return Config(width=8)", "return 8", r"function tiny\(\)"),
    "system": ("return System(policy=policy)", "return policy", "must return a System"),
    "system empty": ("return System(policy=policy)", "return System()", "at least one role"),
    "shapes": (
        "def loss(",
        "class Wide(ClipPolicy):\n    def act(self, past, memory=None):\n"
        "        belief, memory = super().act(past, memory)\n        return belief[:, None], memory\n\n\ndef loss(",
        r"expected shape \(1, 5\); got \(1, 1, 5\)",
    ),
    "learns": (LOSS, LOSS.replace("return ", "return {'all': 1 + 0 * ").replace(")\n", ")['all']}\n"), "not fallen"),
    "learns finite": (
        LOSS,
        "    bad = {'all': cloning(policy, clip, noise)['all'] / (torch.rand((), generator=noise) > 0.5)}\n"
        "    return bad\n",
        "not finite",
    ),
    "seed": ('isolated(run.seed, "policy")', "isolated(str(run.folder))", "other weights"),
    "resume": (
        LOSS,
        "    policy.calls = getattr(policy, 'calls', 0) + 1  # state that no checkpoint holds\n"
        "    return {'all': cloning(policy, clip, noise)['all'] * (1 + policy.calls)}\n",
        "killed twice among 8 steps and resumed, the run ended with other weights",
    ),
    "resume outside of the loop": (
        TRAIN,
        "    return System(policy=build(cfg, run))\n    policy = run.fit(",
        "nothing",
    ),
    "randomness": (TRAIN, "    random.random()\n" + TRAIN, "random in train"),
    "randomness of torch": (TRAIN, "    torch.rand(1)\n" + TRAIN, "torch in train"),
    "folder": (TRAIN, "    Path('OUTSIDE').write_text('x')\n" + TRAIN, "OUTSIDE"),
    "folder paths": (TRAIN, "    (run.folder / 'note').write_text(str(run.folder))\n" + TRAIN, "note holds a path"),
    "folder made": (TRAIN, "    Path('OUTSIDE').mkdir(exist_ok=True)\n" + TRAIN, "OUTSIDE"),
    "folder network": (
        TRAIN,
        "    import contextlib, socket\n    with contextlib.suppress(OSError), socket.socket() as s:\n"
        "        s.connect(('127.0.0.1', 9))\n" + TRAIN,
        "a connection to",
    ),
}


def findings(folder: Path, source: str, *only: str) -> dict[str, Finding]:
    file = folder / "small.py"
    file.write_text(source)
    return {finding.name: finding for finding in check(file, only)}


def test_a_recipe_anywhere_is_checked_and_a_good_one_passes(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD)
    assert [finding for finding in found.values() if not finding.ok] == []
    assert found["results"].detail == "no committed result yet"


@pytest.mark.parametrize("case", BREAKS)
def test_every_rule_finds_the_recipe_that_breaks_it(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    old, new, reason = BREAKS[case]
    source = GOOD.replace(old, new.replace("OUTSIDE", str(tmp_path / "outside")))
    assert source != GOOD
    if case == "shapes":
        source = source.replace("return ClipPolicy(", "return Wide(")
    (rule,) = findings(tmp_path, source, case.split()[0]).values()
    assert not rule.ok
    assert re.search(reason.replace("OUTSIDE", "outside"), rule.detail), rule.detail


class Whole:
    """An inverse model that compares each frame with its whole row, also where that holds another episode."""

    view, space = View(2, 0, size=(8, 8)), ActionSpace((categorical("move", ("dark", "bright")),))

    def infer(self, clip: Clip) -> Distribution:
        level = clip.frames.float().mean((2, 3, 4))  # type: ignore[union-attr]
        far = (level[:, :-1] - level[:, :1].cummax(1).values - torch.arange(clip.steps)).unsqueeze(-1)
        return Distribution(self.space, torch.cat([far, -far], -1))


def test_an_inverse_model_that_does_not_see_where_an_episode_changes_is_found() -> None:
    clip = Clip(frames=torch.arange(2 * 5 * 3 * 64).view(2, 5, 3, 8, 8).to(torch.uint8))
    with pytest.raises(Broken, match="must be answered as each alone"):
        contract._try_inverse(Whole(), clip, "inverse")


DEPARTS = {"laq.width", "vpt.frames", "vpt.hidden"}  # presets smaller than what was published, as sources.md says


def published(name: str, cls: Any, preset: Any) -> Iterator[tuple[str, str, Any]]:
    """Each setting that says a published number alone, "(paper: 0.95)", and its value in the preset."""
    told = meanings(cls)
    for one in fields(cls):
        value = getattr(preset, one.name)
        if is_dataclass(value) and not isinstance(value, Fit):
            yield from published(f"{name}.{one.name}", type(value), value)
        elif number := re.search(r"\(paper: ([0-9.,e-]+)\)", told.get(one.name, "")):
            yield f"{name}.{one.name}", number[1].rstrip(",").replace(",", ""), value


@pytest.mark.parametrize("name", [name for name in recipes() if hasattr(load_recipe(name), "paper")])
def test_a_preset_has_the_published_numbers_that_its_settings_tell(name: str) -> None:
    module = load_recipe(name)
    for where, number, value in published(name, module.Config, module.paper()):
        if isinstance(value, int | float):
            assert (float(value) == pytest.approx(float(number))) == (where not in DEPARTS), where


def test_settings_tell_many_published_numbers() -> None:
    modules = {name: load_recipe(name) for name in recipes() if hasattr(load_recipe(name), "paper")}
    found = {one[0] for name, module in modules.items() for one in published(name, module.Config, module.paper())}
    assert len(found) > 100
    assert found >= DEPARTS


class Drifting:
    """A forward model of one number; each flaw is one that the contract must find."""

    view, space = View(size=(8, 8)), ActionSpace((categorical("move", ("dark", "bright")),))

    def __init__(self, flaw: str = "") -> None:
        self.flaw, self.calls = flaw, 0

    def observe(self, past: Clip, state: Any = None) -> Any:
        level = past.frames.float().mean((2, 3, 4))[:, -1:]  # type: ignore[union-attr]
        return {"level": level[:1] if state is not None and self.flaw == "goes on" else level}

    def imagine(self, state: Any, actions: Any, steps: int, noise: torch.Generator) -> tuple[Clip, Any]:
        self.calls += 1
        level = state["level"]
        if self.flaw == "branch":
            level.add_(1.0)
        if self.flaw == "two dreams":
            level = level + self.calls
        if self.flaw == "as many dreams":
            level = level[:2]
        shown = level.clamp(0, 255).to(torch.uint8).view(-1, 1, 1, 1, 1).expand(-1, steps + 1, 3, 8, 8).contiguous()
        return Clip(frames=shown), {"level": level}

    def decode(self, clip: Clip) -> Clip:
        return clip

    def log_prob(self, clip: Clip) -> torch.Tensor:
        raise NoLikelihood("a test world")


@pytest.mark.parametrize("flaw", ["", "goes on", "branch", "two dreams", "as many dreams"])
def test_a_world_that_cannot_be_branched_repeated_or_widened_is_found(flaw: str) -> None:
    clip = Clip(frames=torch.arange(2 * 3 * 3 * 64).view(2, 3, 3, 8, 8).to(torch.uint8))
    if not flaw:
        contract._try_forward(Drifting(), clip, "forward")
        return
    with pytest.raises(Broken, match=flaw):
        contract._try_forward(Drifting(flaw), clip, "forward")


class Spoken(Drifting):
    """The same, and it takes words; its flaws show where some are said."""

    space = ActionSpace((*Drifting.space.segments, Segment("caption", "text", tuple("0123"))))

    def imagine(self, state: Any, actions: Any, steps: int, noise: torch.Generator) -> tuple[Clip, Any]:
        dream, after = super().imagine(state, actions, steps, noise)
        heard = bool((actions[..., 2:] >= 0).any())
        rewards = torch.zeros(dream.rows, steps)
        if heard and self.flaw == "rewards that are not finite":
            rewards[-1, -1] = torch.inf
        if heard and self.flaw == "gave two dreams":
            rewards += self.calls
        return dream.with_(rewards=rewards), after


@pytest.mark.parametrize("flaw", ["", "rewards that are not finite", "gave two dreams"])
def test_a_world_that_errs_where_words_are_said_is_found(flaw: str) -> None:
    clip = Clip(frames=torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8))
    if not flaw:
        contract._try_forward(Spoken(), clip, "forward")
        return
    with pytest.raises(Broken, match=f"told words: .*{flaw}"):
        contract._try_forward(Spoken(flaw), clip, "forward")


def test_results_of_other_settings_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_HOME", tmp_path / "src" / "retrodict")
    file = tmp_path / "small.py"
    file.write_text(GOOD)
    module = load_recipe(file)
    folder = tmp_path / "results" / "retrodict_recipe_small"
    folder.mkdir(parents=True)
    for digest, preset, ok in (
        (checking.config_digest(module.tiny()), "tiny", True),
        (checking.config_digest(module.paper()), "paper", True),
        (checking.config_digest(module.paper()), "tiny", False),
    ):
        (folder / "success.json").write_text(json.dumps({"config": digest, "preset": preset}))
        if ok:
            assert checking._results_rule(module) == "1 committed results"
        else:
            with pytest.raises(Broken, match="Measure again"):
                checking._results_rule(module)


def test_recipes_are_found_by_name_and_by_file(tmp_path: Path) -> None:
    assert {"bc", "lapo", "vpt", "joint"} <= set(recipes())
    assert load_recipe("bc") is load_recipe(Path(checking.__file__).parent / "recipes" / "bc.py")
    with pytest.raises(UnknownName, match="Did you mean 'lapo'"):
        load_recipe("lappo")
    with pytest.raises(UnknownName, match="Did you mean 'resume'"):
        check("bc", ["resum"])
    with pytest.raises(UnusableInput, match=r"no recipe file .*absent\.py"):
        load_recipe(tmp_path / "absent.py")


def test_a_header_is_read_with_its_continued_lines(tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(GOOD)
    assert header(load_recipe(file)) == {
        "system": "Small",
        "summary": "the smallest recipe that keeps the contract.",
        "claim": "it learns something",
        "tiny": "a second a seed",
        "paper": "none; this is a test of the contract",
        "run": "retrodict train small.py --data D --out RUN",
    }


def test_a_recipe_that_cannot_even_train_fails_rule_by_rule(tmp_path: Path) -> None:
    found = findings(tmp_path, GOOD.replace(TRAIN, "    raise KeyError('labels')\n" + TRAIN))
    assert found["header"].ok
    assert {name for name, finding in found.items() if not finding.ok} == set(RULES[4:])
    assert "KeyError: 'labels'" in found["system"].detail


def test_actions_of_a_space_with_words_are_drawn_with_empty_words_or_given_ones() -> None:
    words = Segment("caption", "text", ("0", "1"))
    space = ActionSpace((categorical("key", ("a", "b")), words, continuous("drive", ("x",))))
    drawn = contract._some_actions(space, 3, 4)
    assert drawn.shape == (3, 4, 5)
    assert bool((drawn[..., 2:4] == -1).all())
    assert bool((drawn[..., :2].sum(-1) == 1).all())
    assert len(set(drawn[..., 4].flatten().tolist())) > 1
    assert space.describe(contract._some_actions(space, 3, 4, "go")[2, 3])["caption"] == "go"
    assert space.describe(contract._some_actions(space, 3, 4, "goes")[0, 0])["caption"] == "go"  # it has two columns
    plain = contract._some_actions(ActionSpace(space.segments[:1]), 3, 4)
    assert bool((plain.sum(-1) == 1).all())

"""The latent action core, and the known defects of its kind: each has a defective variant that the test finds out.

Defects (see docs/sources.md): a decoder that sees its target, restarts of another book or onto copies, restarts that
stop while the net still moves, and a policy that answers the mean of modes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from retrodict.clip import Clip
from retrodict.data.batch import Steps
from retrodict.errors import NoFrames, UnusableInput
from retrodict.measure.latents import leak
from retrodict.models import encoder, frame_world, inverse, latent_action
from retrodict.models.encoder import FrameEncoder, frozen_encoder
from retrodict.models.inverse import Inverse
from retrodict.models.latent_action import (
    DECAYED,
    FeatureForward,
    LabelledInverse,
    LatentAction,
    LatentForward,
    LatentInverse,
)
from retrodict.models.losses import cloning, explaining, labelled
from retrodict.models.policy import ClipPolicy
from retrodict.nn.conv import normalise
from retrodict.nn.quantize import GroupedVQ, code_space
from retrodict.recipes import laom, lapo, laq
from retrodict.roles import System, View
from retrodict.run.checkpoint import load_system, save_system
from retrodict.run.loop import Fit
from retrodict.run.run import Run, Views
from retrodict.segments import vector
from retrodict.spaces import ActionSpace, categorical, continuous

SIZE = (12, 12)
ONE, TWO = View(size=SIZE), View(2, size=SIZE)
SMALL = {"patch": 4, "width": 8, "depth": 1}
VQ = {"kind": "vq", "positions": 1, "codes": 4, "width": 4}
SPACE = ActionSpace((categorical("move", ("stay", "go", "back")),))


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def frames(rows: int = 6, length: int = 2, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, length, 3, *SIZE), generator=noise).to(torch.uint8)


def pixels(**more: Any) -> LatentAction[LatentForward]:
    return LatentAction(LatentInverse(TWO, VQ, **SMALL), LatentForward(ONE, VQ, **SMALL), **more)


def stopped() -> LatentAction[LatentForward]:
    """LAPA's: features of changes, and a context whose gradient stops."""
    code, seen = {"kind": "nsvq", "positions": 1, "codes": 4, "width": 4}, FrameEncoder(ONE, **SMALL)
    return LatentAction(
        LatentInverse(TWO, code, "features", **SMALL, encoder=seen), LatentForward(ONE, code, **SMALL, encoder=seen)
    )


def features(frozen: bool = False, **more: Any) -> LatentAction[FeatureForward]:
    code, seen = {"kind": "none", "width": 5}, FrameEncoder(ONE, **SMALL, frozen=frozen)
    given = LatentInverse(TWO, code, "features", **SMALL, encoder=seen)
    return LatentAction(given, FeatureForward(ONE, 5, seen, width=8, depth=1), **more)


# The decoder sees the target


@pytest.mark.parametrize("make", [pixels, stopped, features])
def test_the_target_reaches_the_prediction_through_the_latent_alone(
    make: Callable[[], LatentAction[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of the prediction by pixels of the target frame: some through the latent, none without it."""
    model = make().train()
    shown: list[Tensor] = []

    def watched(taken: Tensor) -> Tensor:
        shown.append(normalise(taken).requires_grad_())
        return shown[-1]

    for module in (inverse, frame_world, latent_action, encoder):
        monkeypatch.setattr(module, "normalise", watched)
    both = frames()
    latent, _, _ = model.inverse.quantiser(model.inverse.latent(both))
    targets = [x for x in shown if x.shape[1] == 2]
    if isinstance(model.world, LatentForward):
        shown.clear()
        predicted = model.world.net(both[:, :1], latent).sum()
        cut = model.world.net(both[:, :1], latent.detach()).sum()
    else:
        shown.clear()
        predicted, _ = model.world.errors(both[:, :1], latent, both[:, 1])
        cut, _ = model.world.errors(both[:, :1], latent.detach(), both[:, 1])
    through = torch.autograd.grad(predicted, targets, allow_unused=True, retain_graph=True)
    assert any(g is not None and bool((g[:, 1] != 0).any()) for g in through)
    beside = torch.autograd.grad(cut, [*targets, *shown], allow_unused=True)
    mine = beside[len(targets) :]
    assert all(g is None for g in beside[: len(targets)])
    if isinstance(model.world, LatentForward):  # what it looks at is the frame before
        assert all(bool((x == normalise(both[:, :1])).all()) for x in shown)
    else:  # the target of features is compared with, and never looked through
        assert all(g is None for g in mine)


@pytest.mark.parametrize("make", [stopped, features])
def test_no_gradient_reaches_the_encoder_but_through_the_latent(make: Callable[[], LatentAction[Any]]) -> None:
    model, both = make().train(), frames()
    latent, _, _ = model.inverse.quantiser(model.inverse.latent(both))
    mine = list(model.inverse.net.encoder.parameters())
    error, _ = model.world.errors(both[:, :1], latent.detach(), both[:, 1])
    assert all(g is None for g in torch.autograd.grad(error, mine, allow_unused=True))
    error, _ = model.world.errors(both[:, :1], latent, both[:, 1])
    assert any(bool((g != 0).any()) for g in torch.autograd.grad(error, mine))


class Leaking(LatentForward):
    """Decodes from features that already contain the target frame (as open-genie does)."""

    def errors(self, seen: Tensor, latent: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        _, copy = super().errors(seen, latent, following)
        return F.mse_loss(self.net(following[:, None], latent), normalise(following)), copy


class Smuggling(LatentInverse):
    """Its latent is wide enough for the next frame, and is the next frame."""

    def latent(self, frames: Tensor) -> Tensor:
        return normalise(frames[:, -1]).flatten(1)


class Unpacking(LatentForward):
    """Shows what a smuggling inverse packed."""

    def errors(self, seen: Tensor, latent: Tensor, following: Tensor) -> tuple[Tensor, Tensor]:
        _, copy = super().errors(seen, latent, following)
        return F.mse_loss(latent.view(following.shape), normalise(following)), copy


def steps_of_a_square(rows: int, seed: int) -> Tensor:
    """Frames of 20 pixels in which a square moves by 4 in one of four directions, on grounds of many colours."""
    noise = torch.Generator().manual_seed(seed)
    ground = torch.randint(40, 200, (rows, 3, 1, 1), generator=noise)
    at, way = torch.randint(1, 4, (rows, 2), generator=noise), torch.randint(0, 4, (rows,), generator=noise)
    shown = ground[:, None].expand(-1, 2, -1, 20, 20).clone()
    moved = at + torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1]])[way]
    for t, where in enumerate((at, moved)):
        for row, (y, x) in enumerate((4 * where).tolist()):
            shown[row, t, :, y : y + 4, x : x + 4] = 255 * (ground[row] < 120)
    return shown.to(torch.uint8)


def trained(model: LatentAction[Any], data: Tensor, fit: Fit) -> LatentAction[Any]:
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=fit.rate)
    for step in range(fit.steps):
        picked = torch.randint(0, len(data), (fit.batch,), generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        explaining(model.train(), Clip(frames=data[picked]), torch.Generator())["all"].backward()
        optimiser.step()
        model.after_step(step, fit.rate_at(step) / fit.rate)
    return model.eval()


def test_alarms_tell_a_decoder_that_sees_the_target_and_a_latent_that_carries_the_frame() -> None:
    """All explain the next frame; only the honest one needs the right latent for it, and cannot explain a cut."""
    view, one, fit = View(2, size=(20, 20)), View(size=(20, 20)), Fit(300, 32, 5e-3)
    few, wide = {"kind": "vq", "positions": 1, "codes": 4, "width": 8}, {"kind": "none", "width": 1200}
    more = {"patch": 4, "width": 16, "depth": 1}
    data, unseen = steps_of_a_square(600, 0), steps_of_a_square(200, 1)
    honest = LatentAction(LatentInverse(view, few, **more), LatentForward(one, few, **more), restart_every=10)
    leaking = LatentAction(LatentInverse(view, few, **more), Leaking(one, few, **more))
    smuggling = LatentAction(Smuggling(view, wide, **more), Unpacking(one, wide, **more)).eval()
    good = trained(honest, data, fit).alarms(unseen)
    sees, packs = trained(leaking, data, Fit(40, 32, 5e-3)).alarms(unseen), smuggling.alarms(unseen)
    assert max(sees["error"], packs["error"]) < good["error"] < 0.5  # by reconstruction, the defects are better
    assert good["shuffled"] > 1.3 * good["error"]
    assert sees["shuffled"] == pytest.approx(sees["error"], abs=1e-3)  # the latent is ignored
    assert leak(good["cut"], 1.0) < 0.3
    assert leak(sees["cut"], 1.0) > 0.95
    assert leak(packs["cut"], 1.0) > 0.95


# Restarts of codes


class OtherBook(GroupedVQ):
    """Restarts a book that nobody uses (as a hook on the frozen book does)."""

    def _place(self, b: int, number: int, value: Tensor) -> None:
        self.aside = deepcopy(self.book)
        self.aside[b, number] = value


class BookOnly(GroupedVQ):
    """Restarts the vectors and not the averages that they are made of."""

    def _place(self, b: int, number: int, value: Tensor) -> None:
        self.book[b, number] = value


class Copies(GroupedVQ):
    """Restarts onto copies of a used code, a hair beside it (as LAPA does)."""

    def restart_dead(self, rng: torch.Generator, threshold: float = 0.05) -> int:
        dead = (self.used[0] < threshold).nonzero().flatten().tolist()
        best = int(self.used[0].argmax())
        for number in dead:
            super()._place(0, number, self.book[0, best] + 1e-12)
            self.used[0, number] = 1.0
        return len(dead)


def codes_in_use(make: Callable[..., GroupedVQ]) -> int:
    """Four inputs, one settled code in their middle and three far away: how many codes answer in the end."""
    inputs = torch.tensor([[11.0, 10.0], [9.0, 10.0], [10.0, 11.0], [10.0, 9.0]])
    book = make(1, 4, 2).train()
    book.ready.fill_(True)
    book.used[0, 1:] = 0.0
    book.book[0] = book.total[0] = torch.tensor([[10.0, 10.0], [50.0, -50.0], [-50.0, 50.0], [-50.0, -50.0]])
    for step in range(100):
        book(inputs)
        if (step + 1) % 10 == 0:
            book.restart_dead(torch.Generator().manual_seed(step))
    return len(book.assign(inputs[:, None]).unique())


def test_dead_codes_come_to_life_and_defective_restarts_leave_them_dead() -> None:
    assert codes_in_use(GroupedVQ) >= 3  # one that lands on another waits for its next turn
    assert codes_in_use(OtherBook) == 1
    assert codes_in_use(BookOnly) == 1


def test_restarted_codes_are_places_of_their_own_and_copies_of_a_used_one_are_found() -> None:
    inputs = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    apart = {}
    for make in (GroupedVQ, Copies):
        book = make(1, 4, 2).train()
        book(inputs)
        book.book[0, 1:], book.used[0, 1:] = 30.0, 0.0
        seen = set()
        for turn in range(20):  # a code that shares its place is given another one in its turn
            book.used[0, 1:] = 0.0
            assert book.restart_dead(torch.Generator().manual_seed(turn)) == 3
            seen.add(len(torch.unique((book.book[0] * 1e6).round(), dim=0)))
        apart[make] = max(seen)
        places = book.book[0, 1:].tolist()
        assert all(place in inputs.tolist() for place in places) == (make is GroupedVQ)
    assert apart == {GroupedVQ: 4, Copies: 1}


@pytest.mark.parametrize("kind", ["vq", "nsvq"])
def test_a_restart_touches_the_book_that_both_models_use(kind: str) -> None:
    code = {"kind": kind, "positions": 1, "codes": 4, "width": 4}
    model = LatentAction(LatentInverse(TWO, code, **SMALL), LatentForward(ONE, code, **SMALL), restart_every=1).train()
    model.explain(frames())
    model.inverse.quantiser.used[0, 2] = 0.0  # type: ignore[index, operator]
    before, codes = model.world.quantiser.book.clone(), code_space(1, 4).one_hot(torch.tensor([2]))  # type: ignore[operator, union-attr]
    old = model.eval().world.predict(frames(1, 1), codes)
    model.after_step(0, 1.0)
    assert model.gauges()["codes/restarted"] == 1.0
    assert (model.world.quantiser.book != before).any(-1).tolist() == [[False, False, True, False]]  # type: ignore[union-attr]
    assert not torch.allclose(model.world.predict(frames(1, 1), codes), old)
    model.after_step(1, 0.0)
    assert model.gauges()["codes/restarted"] == 0.0  # in that step


def last_restart(part: LatentAction[Any], fit: Fit, monkeypatch: pytest.MonkeyPatch) -> tuple[int, float]:
    """The last step at which dead codes restart, and the rate there as a share of its peak."""
    restarted: list[int] = []
    steps = range(part.restart_every - 1, fit.steps, part.restart_every)
    for step in steps:
        monkeypatch.setattr(
            part.inverse.quantiser, "restart_dead", lambda rng, at=step: restarted.append(at), raising=False
        )
        part.after_step(step, fit.rate_at(step) / fit.rate)
    following = next((step for step in steps if step > restarted[-1]), fit.steps)
    return restarted[-1], fit.rate_at(following) / fit.rate


class Early(LatentAction[LatentForward]):
    """Restarts until step 5,000, and then never (as LAPA does)."""

    def after_step(self, step: int, rate: float) -> None:
        if step < 5000 and (step + 1) % self.restart_every == 0:
            self.inverse.quantiser.restart_dead(torch.Generator())


FITS = (Fit(900), Fit(12_000), Fit(100_000, floor=0.01), Fit(8_000, warmup=0.5), Fit(7_000, floor=1.0))


@pytest.mark.parametrize("fit", FITS)
def test_restarts_do_not_stop_before_the_rate_has_decayed(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    step, rate = last_restart(pixels(), fit, monkeypatch)
    assert rate <= DECAYED or fit.steps - step <= 40
    if fit.steps > 5000:
        early = Early(LatentInverse(TWO, VQ, **SMALL), LatentForward(ONE, VQ, **SMALL))
        step, rate = last_restart(early, fit, monkeypatch)
        assert rate > DECAYED  # the measure finds the defect
        assert fit.steps - step > 40


def test_settling_earlier_cannot_be_asked_for() -> None:
    with pytest.raises(UnusableInput, match=r"below 0.2 of its peak; got 0.5"):
        pixels(settle=0.5)


@pytest.mark.parametrize("recipe", [lapo, laq])
def test_recipes_restart_until_the_rate_has_decayed_also_in_longer_runs(
    recipe: Any, sprites: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = recipe.tiny()
    stage = {"lapo": "world", "laq": "quantise"}[recipe.__name__.rpartition(".")[2]]
    with Run(tmp_path, sprites) as run:
        model = laq.quantiser(cfg, run) if recipe is laq else lapo.latent_action(cfg, sprites.unlabelled.cache)
    for fit in (getattr(cfg, stage), Fit(20_000)):  # as set; with --set or a preset of another length
        step, rate = last_restart(model, fit, monkeypatch)
        assert rate <= DECAYED or fit.steps - step <= model.restart_every


# The mean of modes


def fitted_policy(space: ActionSpace, actions: Tensor) -> ClipPolicy:
    """Clones two modes: the same frame, followed by one action or the other."""
    policy = ClipPolicy(ONE, space, **SMALL, hidden=16)
    clip = Clip(frames=frames(1, 2).expand(len(actions), -1, -1, -1, -1), actions=actions[:, None])
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        cloning(policy, clip, torch.Generator())["all"].backward()
        optimiser.step()
    return policy.eval()


def test_a_latent_policy_keeps_both_modes_and_a_mean_would_take_an_action_that_nobody_took() -> None:
    """Left is code 0 (latent -1), right is code 2 (latent 1), staying is code 1 (latent 0) and was never seen."""
    codes, taken = code_space(1, 3), torch.tensor([0, 2] * 8)
    belief, _ = fitted_policy(codes, codes.one_hot(taken)).act(Clip(frames=frames(1, 1)))
    assert belief.probabilities()[0].tolist() == pytest.approx([0.5, 0.0, 0.5], abs=0.1)
    drawn = belief[[0] * 500].sample(torch.Generator().manual_seed(0)).mean(0)
    assert drawn.tolist() == pytest.approx([0.5, 0.0, 0.5], abs=0.12)
    line = ActionSpace((continuous("latent", ("0",), -2.0, 2.0),))
    mean, _ = fitted_policy(line, (taken - 1.0)[:, None]).act(Clip(frames=frames(1, 1)))
    book = torch.tensor([[-1.0], [0.0], [1.0]])
    assert int(torch.cdist(mean.mode(), book).argmin()) == 1  # what nobody did


def test_a_policy_over_latent_vectors_is_refused() -> None:
    with pytest.raises(UnusableInput, match="mean of modes"):
        ClipPolicy(ONE, ActionSpace((vector("latent", 4),)), **SMALL)


# Vectors, features and label heads


def test_a_vector_bottleneck_makes_a_world_of_vectors() -> None:
    code = {"kind": "gaussian", "width": 3}
    model = LatentAction(LatentInverse(TWO, code, **SMALL), LatentForward(ONE, code, **SMALL)).eval()
    assert model.inverse.space == model.world.space
    assert model.inverse.space.latent
    assert model.inverse.space.segments[0].kind == "vector"
    belief = model.inverse.infer(Clip(frames=frames(2, 4)))
    assert belief.params.shape == (2, 3, 6)
    dream, _ = model.world.imagine(model.world.observe(Clip(frames=frames(2, 1))), belief.mode(), 3, torch.Generator())
    assert dream.length == 4
    assert (
        model.world.imagine(model.world.observe(Clip(frames=frames(2, 1))), None, 2, torch.Generator())[0].length == 3
    )


def test_the_target_follows_the_encoder_and_a_frozen_one_stands_still() -> None:
    model = features().train()
    world = model.world
    first = [p.clone() for p in world.target.parameters()]
    with torch.no_grad():
        for p in world.encoder.parameters():
            p.add_(1.0)
    model.after_step(0, 1.0)
    for old, new in zip(first, world.target.parameters(), strict=True):
        assert torch.allclose(new - old, torch.full_like(old, world.follow), atol=1e-6)
        assert not new.requires_grad
    assert set(map(id, model.groups()["all"])).isdisjoint(map(id, world.target.parameters()))
    still = features(frozen=True).train()
    assert still.world.target is still.world.encoder
    before = [p.clone() for p in still.world.encoder.parameters()]
    still.explain(frames())[0].backward()
    still.after_step(0, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, still.world.encoder.parameters(), strict=True))
    assert all(p.grad is None for p in still.world.encoder.parameters())


def test_shrunken_features_are_no_easier_to_predict() -> None:
    """The error is in units of the target's spread, so that a collapse shows and gains nothing."""
    model, both = features().eval(), frames(20)
    _, copy = model.world.errors(both[:, :1], torch.zeros(20, 5), both[:, 1])
    with torch.no_grad():
        last = [m for m in model.world.target.stem.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        last.weight.mul_(0.3)
        assert last.bias is not None
        last.bias.mul_(0.3)
    _, again = model.world.errors(both[:, :1], torch.zeros(20, 5), both[:, 1])
    assert float(again) == pytest.approx(float(copy), rel=0.1)


def test_a_far_frame_is_what_the_inverse_sees_and_the_next_one_what_is_predicted() -> None:
    model, three = features().eval(), frames(5, 3)
    near, _, _ = model.explain(three[:, :2])
    far, _, _ = model.explain(three[:, :2], three[:, 2])
    latent, _, _ = model.inverse.quantiser(model.inverse.latent(three[:, ::2]))
    assert torch.equal(far, model.world.errors(three[:, :1], latent, three[:, 1])[0])
    assert not torch.equal(near, far)


def test_pairs_of_laom_never_reach_beyond_the_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 0 has one frame left, row 1 has three."""
    model = features()
    model.labelled = LabelledInverse(model.inverse, SPACE)
    clip = Clip(frames=frames(2, 4), segment=torch.tensor([[0, 0, -1, -1], [1, 1, 1, 1]], dtype=torch.int32))
    few = Clip(frames=frames(3, 2), actions=SPACE.one_hot(torch.tensor([[0], [1], [2]])))
    seen: list[Tensor] = []
    whole = model.explain

    def noted(shown: Tensor, far: Tensor | None = None) -> Any:
        assert far is not None
        seen.append(far)
        return whole(shown, far)

    monkeypatch.setattr(model, "explain", noted)
    for seed in range(40):
        laom.together(model, {"video": clip, "few": few}, torch.Generator().manual_seed(seed), 1.0)
    assert clip.frames is not None
    for row, allowed in ((0, {1}), (1, {1, 2, 3})):
        found = {t for far in seen for t in range(4) if torch.equal(far[row], clip.frames[row, t])}
        assert found == allowed


def test_labels_train_the_latent_action_itself() -> None:
    model = features()
    head = model.labelled = LabelledInverse(model.inverse, SPACE)
    clip = Clip(frames=frames(3, 2), actions=SPACE.one_hot(torch.tensor([[0], [1], [2]])))
    loss = labelled(head.train(), clip, torch.Generator())["all"]
    assert all(bool((g != 0).any()) for g in torch.autograd.grad(loss, list(model.inverse.to_code.parameters())))
    head.eval().temperature.fill_(2.0)
    assert clip.frames is not None
    assert torch.allclose(head.infer(clip).params[:, 0] * 2, head.belief(clip.frames).params, atol=1e-5)
    with pytest.raises(UnusableInput, match="no label head"):
        _ = pixels().head


def test_features_of_a_saved_system_are_input_and_target_and_are_not_trained(tmp_path: Path, sprites: Views) -> None:
    with Run(tmp_path / "first", sprites) as run:
        run.finish(laom.train(laom.micro(), run), {})
    taken = load_system(tmp_path / "first").encoder
    assert isinstance(taken, FrameEncoder)
    cfg = importlib.import_module("dataclasses").replace(laom.micro(), features=str(tmp_path / "first"))
    with Run(tmp_path / "second", sprites) as run:
        second = laom.train(cfg, run)
    assert isinstance(second.encoder, FrameEncoder)
    assert second.encoder.frozen
    for name, value in taken.state_dict().items():
        assert torch.equal(value, second.encoder.state_dict()[name])
    labels = Inverse(View(2, size=(36, 36)), SPACE, "features", encoder=frozen_encoder(second)).eval()  # as any input
    assert all(not p.requires_grad for p in labels.net.encoder.parameters())  # type: ignore[union-attr]
    assert len(labels.groups()["all"]) < len(list(labels.parameters()))
    with Run(tmp_path / "laq", sprites) as run:  # its inverse compares features: those can be taken over as well
        inner = laq.train(laq.micro(), run)
    save_system(tmp_path / "saved", System(inverse=inner.inverse))
    assert frozen_encoder(load_system(tmp_path / "saved")).shape == inner.inverse.net.encoder.shape  # type: ignore[union-attr]
    with pytest.raises(UnusableInput, match="no features to take over"):
        frozen_encoder(System(inverse=Inverse(TWO, SPACE, **SMALL)))


def test_features_of_frames_are_told_by_frame_and_not_turned_back(cache: Any) -> None:
    part = FrameEncoder(View(size=(36, 36)), patch=4, width=6).eval()
    clip = Steps.all(cache).batch(torch.arange(3).numpy())
    told = part.encode(clip)
    assert told.features is not None
    assert told.features.shape == (3, 2, 6, 9, 9)
    alone = part.encode(clip.cut(1, 2))
    assert torch.allclose(told.features[:, 1], alone.features[:, 0], atol=1e-6)  # type: ignore[index]
    with pytest.raises(NoFrames, match="no decoder"):
        part.decode(told)
    with pytest.raises(UnusableInput, match="one frame at a time"):
        FrameEncoder(TWO, **SMALL)
    with pytest.raises(UnusableInput, match="goes with inputs 'features'"):
        LatentInverse(TWO, VQ, "both", **SMALL, encoder=FrameEncoder(ONE, **SMALL))

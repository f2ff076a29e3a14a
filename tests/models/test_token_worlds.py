"""Worlds of tokens: the same state however a clip is taken in, rows apart, and worlds that learn to obey."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from retrodict import rng, tree
from retrodict.clip import MISSING, RECORDED, Clip
from retrodict.errors import Incompatible, NoLikelihood, UnusableInput
from retrodict.models.actor_critic import ActorCritic, ThroughTokens, practising
from retrodict.models.next_token_world import NextTokenWorld, saying
from retrodict.models.token_world import MaskedWorld, TokenWorld, filling_in
from retrodict.models.tokenizers import PatchTokenizer
from retrodict.nn.returns import lambda_returns, still_on
from retrodict.roles import View
from retrodict.segments import Segment
from retrodict.spaces import ActionSpace, categorical

WIDE, PATCH, PLACES = 16, 2, 8  # a ring of 8 cells, one of which is lit
SPACE = ActionSpace((categorical("move", ("back", "stay", "on")),))
VIEW = View(size=(PATCH, WIDE))


def ring(places: Tensor) -> Tensor:
    """Frames (… 3 2 16) in which one of eight patches is lit."""
    lit = torch.nn.functional.one_hot(places, PLACES).repeat_interleave(PATCH, -1).byte() * 200
    return lit[..., None, None, :].expand(*places.shape, 3, PATCH, WIDE).contiguous()


def played(rows: int, length: int, *address: str) -> Clip:
    generator = rng.torch_rng("ring", *address)
    actions = torch.randint(0, 3, (rows, length - 1), generator=generator)
    start = torch.randint(0, PLACES, (rows, 1), generator=generator)
    places = torch.cat([start, start + (actions - 1).cumsum(1)], 1) % PLACES
    rewards = (places[:, 1:] == 0).float()
    return Clip(
        frames=ring(places), actions=SPACE.one_hot(actions), source=torch.full(actions.shape, RECORDED).byte(),
        rewards=rewards, ends=torch.zeros_like(rewards),
    )  # fmt: skip


def tokenizer() -> PatchTokenizer:
    made = PatchTokenizer(VIEW, PATCH, 2)
    made.learn(Clip(frames=ring(torch.arange(PLACES)[None])), rng.torch_rng(0))
    return made


def world(kind: str, **more: Any) -> TokenWorld:
    with rng.isolated("world"):
        if kind == "masked":
            return MaskedWorld(tokenizer(), SPACE, 16, 2, 2, 3, passes=4, **more).eval()
        if kind == "alike":
            return MaskedWorld(tokenizer(), SPACE, 16, 2, 2, 3, passes=4, alike=True, **more).eval()
        return NextTokenWorld(tokenizer(), SPACE, 16, 2, 2, 3, outcomes=True, **more).eval()


KINDS = pytest.mark.parametrize("kind", ["masked", "alike", "next"])


def dreamt(model: TokenWorld, state: Any, steps: int = 3) -> Tensor:
    actions = SPACE.one_hot(torch.arange(steps) % 3).expand(tree.flatten(state)["time"].shape[0], -1, -1)
    clip, _ = model.imagine(state, actions, steps, rng.torch_rng("dream"))
    assert clip.frames is not None
    return clip.frames


@KINDS
def test_a_clip_taken_in_at_once_or_frame_by_frame_gives_one_state(kind: str) -> None:
    model, clip = world(kind), played(2, 6)
    with torch.no_grad():
        whole = model.observe(clip)
        state = model.observe(clip.cut(0, 1))
        for t in range(1, 6):
            state = model.observe(clip.cut(t - 1, t + 1), state)
        other = model.observe(clip.cut(2, 6), model.observe(clip.cut(0, 3)))
    for name, value in tree.flatten(whole).items():
        for found in (state, other):
            assert torch.allclose(tree.flatten(found)[name].float(), value.float(), atol=1e-5), name


@KINDS
def test_rows_that_begin_anew_forget_and_the_others_go_on(kind: str) -> None:
    model, clip = world(kind), played(2, 5)
    begun = clip.with_(segment=torch.tensor([[7, 7, 7, 8, 8], [3, 3, 3, 3, 3]], dtype=torch.int32))
    with torch.no_grad():
        state = model.observe(begun)
        alone = [model.observe(clip.cut(3, 5).pick([0])), model.observe(clip.pick([1]))]
        later = model.observe(begun.cut(2, 5), model.observe(begun.cut(0, 3)))
        apart = torch.cat([dreamt(model, one) for one in alone])
        # both rows are drawn together here, so what they believe is compared, not what they draw
        for found in (state, later):
            for row, one in enumerate(alone):
                mine = tree.flatten(tree.pick(found, torch.tensor([row])))
                assert mine["time"].equal(tree.flatten(one)["time"])
                held, wanted = mine["cache.at"], tree.flatten(one)["cache.at"]
                assert sorted(held[held >= 0].tolist()) == sorted(wanted[wanted >= 0].tolist())
    assert apart.shape[0] == 2


@KINDS
def test_the_same_rng_dreams_the_same_and_rows_can_be_picked(kind: str) -> None:
    model, clip = world(kind), played(3, 4)
    with torch.no_grad():
        state = model.observe(clip)
        assert dreamt(model, state).equal(dreamt(model, state))
        once, later = model.imagine(state, SPACE.one_hot(torch.ones(3, 2)), 2, rng.torch_rng(0))
        shapes = {name: value.shape for name, value in tree.flatten(state).items()}
        assert {name: value.shape for name, value in tree.flatten(later).items()} == shapes
        assert once.length == 3
        picked = tree.pick(state, torch.tensor([2, 0, 1]))
        assert tree.flatten(picked)["frames"].equal(tree.flatten(state)["frames"][[2, 0, 1]])


def test_what_comes_next_is_what_the_cached_and_the_uncached_net_find_likeliest() -> None:
    model = world("next", temperature=0.0)
    assert isinstance(model, NextTokenWorld)
    clip = played(2, 3)
    actions = SPACE.one_hot(torch.tensor([[0, 2], [1, 1]]))
    with torch.no_grad():
        dream, _ = model.imagine(model.observe(clip), actions, 2, rng.torch_rng(0))
        assert dream.frames is not None
        assert clip.frames is not None
        assert clip.actions is not None
        frames = torch.cat([clip.frames, dream.frames[:, 1:]], 1)
        whole = Clip(frames=frames, actions=torch.cat([clip.actions, actions], 1))
        tokens = model.tokenizer.tokens(frames.flatten(0, 1).unsqueeze(1)).view(2, 5, -1)
        said, ended = model.features(tokens, *model.led(whole), model.times(whole))
        assert model.head(said)[:, 3:].argmax(-1).equal(tokens[:, 3:])
        assert model.outcome is not None
        assert dream.ends is not None
        assert torch.allclose(model.outcome(ended)[:, 3:, -1].sigmoid(), dream.ends, atol=1e-5)


@KINDS
def test_scores_are_log_probabilities_and_padding_and_other_episodes_do_not_count(kind: str) -> None:
    model, clip = world(kind), played(2, 5)
    with torch.no_grad():
        logs = model.log_prob(clip)
        assert logs.shape == (2, 4)
        assert bool((logs < 0).all())
        segment = torch.tensor([[1, 1, 2, 2, 2], [1, 1, 1, 1, 1]], dtype=torch.int32)
        parted = model.log_prob(clip.with_(segment=segment))
        alone = model.log_prob(clip.cut(2, 5).pick([0]))
    assert torch.allclose(parted[1], logs[1], atol=1e-5)
    assert torch.allclose(parted[0, 2:], alone[0], atol=1e-5)
    with pytest.raises(NoLikelihood):
        model.log_prob(clip.with_(actions=None, source=None))


def test_all_frames_of_one_next_frame_have_probability_one_together() -> None:
    tiny = View(size=(2, 4))
    made = PatchTokenizer(tiny, 2, 2)
    made.learn(Clip(frames=torch.tensor([0, 0, 200, 200]).byte().expand(1, 1, 3, 2, 4).contiguous()), rng.torch_rng(0))
    with rng.isolated("world"):
        model = NextTokenWorld(made, SPACE, 8, 1, 2, 2).eval()
    four = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    following = made.pixels(four.unsqueeze(1))
    frames = torch.stack([following[:1].expand(4, -1, -1, -1), following], 1)
    with torch.no_grad():
        logs = model.log_prob(Clip(frames=frames, actions=SPACE.one_hot(torch.ones(4, 1))))
    assert float(logs.exp().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "loss", "steps"),
    [("masked", filling_in, 250), ("alike", partial(filling_in, changing=2.0), 250), ("next", saying, 300)],
)
def test_a_world_learns_to_obey(kind: str, loss: Callable[..., dict[str, Tensor]], steps: int) -> None:
    model = world(kind)
    optimiser = torch.optim.Adam(model.groups()["all"], 5e-3)
    with rng.isolated("obey"):
        for step in range(steps):
            value = loss(model.train(), played(32, 3, str(step)), rng.torch_rng("noise", step))["all"]
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    model.eval()
    model.temperature = 0.0  # type: ignore[assignment]
    clip = played(48, 2, "test")
    actions = torch.arange(48) % 3
    with torch.no_grad():
        dream, _ = model.imagine(model.observe(clip), SPACE.one_hot(actions[:, None]), 1, rng.torch_rng(0))
    assert dream.frames is not None
    lit = dream.frames[:, :, 0, 0, ::PATCH].argmax(-1)  # b t
    right = (lit[:, 1] - lit[:, 0] - (actions - 1)) % PLACES == 0
    assert float(right.float().mean()) > 0.9
    blind = (lit[:, 1] - lit[:, 0] - (actions.roll(1) - 1)) % PLACES == 0
    assert float(blind.float().mean()) < 0.1  # what another row asked for


def test_tokens_that_change_weigh_as_much_more_as_is_said() -> None:
    model, clip = world("masked"), played(8, 3)

    def loss(shown: Clip, changing: float) -> float:
        with torch.no_grad():
            return float(filling_in(model, shown, rng.torch_rng("noise"), changing)["all"])  # type: ignore[arg-type]

    plain, some, more, changed = (loss(clip, weight) for weight in (0.0, 3.0, 9.0, 1e7))
    share = (plain - some) / (3 * (some - changed))  # of the masked tokens, that change: 3 share (changed - some) = …
    assert 0 < share < 1
    assert more == pytest.approx((plain + 9 * share * changed) / (1 + 9 * share), abs=1e-5)
    still = clip.with_(frames=ring(torch.zeros(8, 3, dtype=torch.long)))
    assert loss(still, 3.0) == loss(still, 0.0)


@pytest.mark.parametrize("kind", ["masked", "next"])
def test_rows_of_several_episodes_are_not_learnt_from(kind: str) -> None:
    loss: Any = filling_in if kind == "masked" else saying
    segment = torch.tensor([[4, 4, 4, 9, 9, 9], [5, 5, 5, 5, 5, 5]], dtype=torch.int32)
    with pytest.raises(UnusableInput, match="one episode a row"):
        loss(world(kind), played(2, 6).with_(segment=segment), rng.torch_rng(0))


def test_cells_whose_token_stays_keep_their_pixels() -> None:
    """What was seen is a little brighter than the tokens say; a world that draws all frames anew forgets it."""
    place = torch.tensor([[3]])
    seen = ring(place) + 5
    drawn = {}
    for keeps in (False, True):
        model = world("masked", keeps=keeps)
        tokens = model.tokenizer.tokens(ring(place))
        after = tokens.clone()
        after[:, 3], after[:, 4] = tokens[:, 4], tokens[:, 3]
        model.following = lambda cache, *_, after=after: (after, cache, {})  # type: ignore[method-assign]
        state = model.observe(Clip(frames=seen))
        clip, reached = model.imagine(state, SPACE.one_hot(torch.tensor([[2, 2]])), 2, rng.torch_rng(0))
        assert clip.frames is not None
        drawn[keeps] = clip.frames[0, 1:]
        assert torch.equal(tree.flatten(reached)["frames"][:, -1], clip.frames[:, -1])
    moved = ring(torch.tensor([4, 4]))
    assert torch.equal(drawn[False], moved)
    cells = torch.arange(WIDE) // PATCH
    stays = (cells != 3) & (cells != 4)
    assert torch.equal(drawn[True], torch.where(stays, moved + 5, moved))


def test_a_world_that_begins_keeps_nothing() -> None:
    model = world("masked", keeps=True)
    model.following = lambda cache, *_: (torch.zeros(1, PLACES, dtype=torch.long), cache, {})  # type: ignore[method-assign]
    clip, _ = model.imagine(model.begin(1), SPACE.one_hot(torch.tensor([[1]])), 1, rng.torch_rng(0))
    assert clip.frames is not None
    assert torch.equal(clip.frames[:, 1], model.tokenizer.pixels(torch.zeros(1, 1, PLACES, dtype=torch.long)))


def test_actions_of_another_space_are_refused() -> None:
    model, clip = world("masked"), played(2, 3)
    with pytest.raises(Incompatible, match="takes actions of 3 columns; the clip's have 5"):
        model.observe(clip.with_(actions=torch.zeros(2, 2, 5)))


def test_like_tokens_begin_alike() -> None:
    patches = PatchTokenizer(VIEW, PATCH, 3)
    dark = torch.zeros(3 * PATCH * PATCH)
    patches.book.copy_(torch.stack([dark, dark + 10, dark + 200 * torch.arange(2).repeat(6)]))
    patches.filled.fill_(3)
    near = []
    for seed in range(20):
        with rng.isolated("alike", seed):
            vectors = MaskedWorld(patches, SPACE, 32, 1, 2, 2, alike=True).embed.weight
        kin, other = torch.cdist(vectors[:1], vectors[1:])[0].tolist()
        near.append(kin < other)
    assert sum(near) == 20


def test_withheld_actions_are_told_as_such() -> None:
    model, clip = world("masked"), played(2, 3)
    with torch.no_grad():
        hidden = model.log_prob(clip.with_(source=torch.full((2, 2), MISSING).byte()))
        assert not torch.allclose(hidden, model.log_prob(clip))
        nothing = model.log_prob(clip.with_(actions=torch.zeros_like(clip.actions), source=None))  # type: ignore[arg-type]
        assert not torch.allclose(nothing, hidden)  # an action of zeros is not the same as none


def test_texts_are_actions_too() -> None:
    space = ActionSpace((*SPACE.segments, Segment("event", "text", tuple(map(str, range(12))))))
    with rng.isolated("world"):
        model = MaskedWorld(tokenizer(), space, 16, 1, 2, 2, passes=2).eval()
    say = [space.vector({"move": "stay", "event": words}) for words in ("", "a light", "a lamp")]
    clip = played(1, 2).with_(actions=None, source=None, rewards=None, ends=None)
    with torch.no_grad():
        logs = [float(model.log_prob(clip.with_(actions=words.view(1, 1, -1)))[0, 0]) for words in say]
    assert len(set(logs)) == 3


def test_a_step_counts_while_no_earlier_one_has_ended() -> None:
    assert still_on(torch.tensor([[0.5, 0.0, 1.0, 0.0]])).tolist() == [[1.0, 0.5, 0.5, 0.0]]


def test_lambda_returns_by_hand() -> None:
    rewards, goes_on = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    values = torch.tensor([[9.0, 4.0, 6.0, 8.0]])
    found = lambda_returns(rewards, values, goes_on, discount=0.5, trace=0.5)
    third = 2.0  # the episode ended: nothing follows
    second = 0.0 + 0.5 * (0.5 * 6.0 + 0.5 * third)
    first = 1.0 + 0.5 * (0.5 * 4.0 + 0.5 * second)
    assert found.tolist() == [[first, second, third]]
    assert lambda_returns(rewards, values, goes_on, 0.5, 0.0).tolist() == [[1 + 2.0, 0 + 3.0, 2.0]]


class Ring:
    """The ring itself as a world: a reward on place 0."""

    view, space = VIEW, SPACE

    def observe(self, past: Clip, state: Any = None) -> Any:
        assert past.frames is not None
        return {"place": past.frames[:, -1, 0, 0, ::PATCH].argmax(-1)}

    def imagine(self, state: Any, actions: Any, steps: int, generator: torch.Generator) -> tuple[Clip, Any]:
        places, taken, memory = [state["place"]], [], None
        for step in range(steps):
            belief, memory = actions.act(Clip(frames=ring(torch.stack(places[max(0, step - 1) :], 1))), memory)
            taken.append(belief.sample(generator))
            places.append((places[-1] + taken[-1].argmax(-1) - 1) % PLACES)
        found = torch.stack(places, 1)
        rewards = (found[:, 1:] == 0).float()
        dream = Clip(frames=ring(found), actions=torch.stack(taken, 1), rewards=rewards, ends=torch.zeros_like(rewards))
        return dream, {"place": places[-1]}

    def decode(self, clip: Clip) -> Clip:
        return clip

    def log_prob(self, clip: Clip) -> Tensor:
        raise NoLikelihood("the ring")


class Plain:
    """A tokenizer that loses nothing."""

    def encode(self, clip: Clip) -> Clip:
        return clip

    decode = encode


class Watched(ActorCritic):
    """An actor whose frames are kept."""

    def unroll(self, frames: Tensor, *given: Any) -> Any:
        seen.append(frames)
        return super().unroll(frames, *given)


seen: list[Tensor] = []


def test_an_actor_practises_on_what_it_will_see_frames_of_tokens() -> None:
    with rng.isolated("actor"):
        actor = Watched(VIEW, SPACE, "grid", 2, 8, 1, 8)
    tokens, clip = tokenizer(), played(2, 4)
    assert clip.frames is not None
    clip = clip.with_(frames=clip.frames + 20)  # which no token shows
    seen.clear()
    practising(actor, clip, rng.torch_rng("practice"), world("next"), tokens, 3)
    shown = tokens.decode(tokens.encode(clip)).frames
    assert shown is not None
    assert not torch.equal(shown, clip.frames), "these tokens lose something"
    assert torch.equal(seen[0], shown[:, :2]), "what is remembered"
    assert torch.equal(seen[-1][:, 0], shown[:, 2]), "where practice begins"


def test_an_actor_learns_in_a_world_what_pays_there() -> None:
    with rng.isolated("actor"):
        actor = ActorCritic(VIEW, SPACE, "refine", 2, 16, 1, 16)
    optimiser = torch.optim.Adam(actor.parameters(), 5e-3)
    near = Clip(frames=ring(torch.tensor([1, 2, 7, 6]).repeat(16)[:, None].expand(-1, 2)))
    for step in range(200):
        loss = practising(actor, near, rng.torch_rng("practice", step), Ring(), Plain(), 4, 0.9, 0.95, 0.03)["all"]  # type: ignore[arg-type]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        chosen = actor.act(Clip(frames=ring(torch.tensor([[1], [2], [7], [6]]))))[0].mode().argmax(-1)
    assert chosen.tolist() == [0, 0, 2, 2]


def test_an_actor_remembers_and_forgets_where_an_episode_begins() -> None:
    with rng.isolated("actor"):
        actor = ActorCritic(VIEW, SPACE, "grid", 2, 8, 1, 8)
    through, clip = ThroughTokens(tokenizer(), actor), played(2, 4).only("frames")
    with torch.no_grad():
        whole, _ = through.act(clip)
        _, memory = through.act(clip.cut(0, 3))
        later, _ = through.act(clip.cut(2, 4), memory)
        assert torch.allclose(whole.params, later.params, atol=1e-6)
        begun = clip.with_(segment=torch.tensor([[1, 1, 2, 2], [1, 1, 1, 1]], dtype=torch.int32))
        found = through.act(begun)[0].params
        assert torch.allclose(found[0], through.act(clip.cut(2, 4))[0].params[0], atol=1e-6)
        assert torch.allclose(found[1], whole.params[1], atol=1e-6)


def test_outcomes_are_learnt_from_data_that_has_them() -> None:
    model = world("next")
    assert isinstance(model, NextTokenWorld)
    clip = played(2, 3)
    assert bool(saying(model, clip, rng.torch_rng(0))["all"].isfinite())
    with pytest.raises(UnusableInput, match="rewards and ends"):
        saying(model, clip.with_(rewards=None, ends=None), rng.torch_rng(0))


def test_practice_needs_rewards() -> None:
    with rng.isolated("actor"):
        actor = ActorCritic(VIEW, SPACE, "grid", 2, 8, 1, 8)
    with pytest.raises(UnusableInput, match="rewards"):
        practising(actor, played(2, 3), rng.torch_rng(0), world("masked"), tokenizer(), 2)

"""W4 and the page itself: text is never markup, a keyboard is enough, screen readers are told, any width and theme."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import chromium
import pytest
import torch
import toy

from retrodict.envs.sprites import Sprites
from retrodict.report.style import CSS, THEME
from retrodict.serve import player, screen
from retrodict.serve import server as server_module
from retrodict.serve.batch import Speech
from retrodict.serve.messages import COMMANDS, MOST_NAME
from retrodict.serve.server import pages
from retrodict.spaces import ActionSpace, categorical

PAYLOADS = (
    "<script>boom()</script>", "<img src=x onerror=boom()>", "<svg onload=boom()>", "\"><b id=boom>", "'><i id=boom>",
    "</title><b id=boom>", "</bdi><b id=boom>", "<iframe src=//evil>", "<a href=javascript:boom()>x</a>", "<b id=boom>",
    "<style>*{display:none}</style>", "<meta http-equiv=refresh>", "<base href=//evil>", "<form action=//evil>",
    "<input autofocus onfocus=boom()>", "<details open ontoggle=boom()>", "<!--", "]]>", "<![CDATA[<b id=boom>]]>",
    "&lt;b id=boom&gt;", "&#60;b id=boom&#62;", "{{7*7}}", "${7*7}", "`${boom()}`", "javascript:boom()",
    "\\u003cb id=boom>", "<math><b id=boom></math>", "<template><b id=boom>", "<object data=//evil>",
    "../../../../etc/passwd", "=HYPERLINK(0)", "<b/id=boom>",
)  # fmt: skip
READY = "document.querySelector('#line')?.classList.contains('on') && document.querySelectorAll('.key').length > 1"
NAMED = {"button", "slider", "textbox", "radio", "img", "image", "application", "ColorWell", "region", "heading"}
FOCUS = "(({ id, dataset, className }) => id || dataset.key || className)(document.activeElement)"


class Markup(HTMLParser):
    """Tags of the page with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def scripts() -> dict[str, str]:
    folder = files("retrodict.serve") / "pages"
    return {file.name: file.read_text() for file in folder.iterdir() if file.name.endswith(".js")}


def test_nothing_in_the_page_makes_markup_out_of_text_or_runs_it() -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|setHTML|DOMParser|"
        r"createContextualFragment|setTimeout\(\s*[\"'`]|localStorage|document\.cookie|https?:|"
        r"\.(?:src|href|action)\s*=[^=]|setAttribute\(\s*[\"'`](?!aria-)|\bimport\("
    )
    assert len(scripts()) >= 5
    for name, text in scripts().items():
        assert not re.search(forbidden, text.replace("http://www.w3.org/2000/svg", "")), name
    page = Markup()
    page.feed(pages()["/"][0].decode())
    for tag, attributes in page.tags:
        assert tag not in ("style", "iframe", "object", "base"), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("src", "href"):
            assert re.fullmatch(r"/[a-z]+\.(css|js|svg)", attributes.get(name) or "/a.js"), attributes
    assert [a for tag, a in page.tags if tag == "script"] == [{"type": "module", "src": "/play.js"}]


def test_all_files_that_the_page_asks_for_are_there_and_the_colours_are_those_of_our_reports() -> None:
    there = pages()
    asked = set(re.findall(r"(?:src|href)=\"(/[^\"]+)\"", there["/"][0].decode()))
    asked |= {f"/{name}" for text in scripts().values() for name in re.findall(r"from \"\./([^\"]+)\"", text)}
    assert asked <= set(there)
    assert CSS.startswith(THEME)
    assert there["/theme.css"] == (THEME.encode(), "text/css")


def test_page_and_server_know_the_same_messages() -> None:
    page = "".join(scripts().values())
    assert set(re.findall(r"\b(?:wire|this)\.tell\(\"(\w+)\"", page)) == set(COMMANDS)
    server = "".join(Path(module.__file__ or "").read_text() for module in (player, screen, server_module))
    kinds = set(re.findall(r"\.tell\(\s*\"(\w+)\"", server)) | set(re.findall(r"\"kind\": \"(\w+)\"", server))
    heard = page[page.index("const heard = {") : page.index("const wire =")]
    assert kinds == set(re.findall(r"^  (\w+)(?:\(|:)", heard, re.MULTILINE)) | {"seat"}


@pytest.fixture(scope="module")
def tab() -> Iterator[Callable[[], chromium.Page]]:
    if chromium.found() is None:
        pytest.skip("there is no Chromium on this machine")
    with chromium.browser() as opened:
        yield opened


@pytest.fixture
def served(tmp_path: Path) -> Iterator[toy.Served]:
    with toy.serving(toy.game(tmp_path / "out")) as running:
        yield running


def opened(tab: Callable[[], chromium.Page], served: toy.Served, width: int = 1280, height: int = 900) -> chromium.Page:
    page = tab()
    page.size(width, height)
    page.open(served.guard.url)
    page.wait(READY)
    page.wait("document.querySelector('.share').textContent")
    return page


def test_w4_names_captions_and_errors_are_shown_literally(tab: Callable[[], chromium.Page], tmp_path: Path) -> None:
    assert len(PAYLOADS) >= 30
    assert all(len(text) <= MOST_NAME for text in PAYLOADS)
    hostile = toy.game(tmp_path, title=PAYLOADS[0], notes=PAYLOADS)
    for i in range(5):
        hostile.rename(1, f"0:{i}", PAYLOADS[i])
    with toy.serving(hostile) as served:
        page = opened(tab, served)
        page.run("globalThis.boom = () => { globalThis.harmed = true }")
        before = page.run("[...document.querySelectorAll('*')].map((e) => e.tagName).sort().join()")
        assert page.run("document.querySelector('#title').textContent") == PAYLOADS[0]
        assert page.run("[...document.querySelectorAll('#notes li')].map((e) => e.textContent)") == list(PAYLOADS)
        page.run("document.querySelectorAll('[name=speech]')[1].click()")
        page.wait("document.querySelector('.key .name').textContent.includes('boom')")
        seen = page.run("[...document.querySelectorAll('.key .name')].map((e) => e.textContent)")
        assert sorted(seen) == sorted(PAYLOADS[:5])
        for text in PAYLOADS:
            page.run(f"""(() => {{
                const input = document.querySelector('#names input');
                input.value = {json.dumps(text)};
                input.dispatchEvent(new Event('change'));
            }})()""")
            page.wait(f"document.querySelector('.key .name').textContent === {json.dumps(text)}")
        page.run("document.querySelectorAll('[name=speech]')[0].click()")
        page.wait("document.querySelector('.key .name').textContent === 'stay'")
        after = page.run("[...document.querySelectorAll('*')].map((e) => e.tagName).sort().join()")
        assert before == after, "no element came or went"
        assert page.run("globalThis.harmed === undefined && document.querySelector('#boom') === null")
        assert page.logs == []


HARM = """globalThis.harmed !== undefined || document.querySelector('#boom') !== null ||
    document.querySelectorAll('script').length !== 1 ||
    [...document.querySelectorAll('*')].some((e) => [...e.attributes].some((a) => a.name.startsWith('on')))"""


def test_w4_actions_are_shown_literally(tab: Callable[[], chromium.Page], tmp_path: Path) -> None:
    start = torch.full((3, toy.SIZE, toy.SIZE), 26, dtype=torch.uint8)
    for names in (PAYLOADS[i : i + 5] for i in range(0, 30, 5)):
        space = ActionSpace((categorical("move", names),))
        with toy.serving(toy.game(tmp_path, env=None, frame=start, space=space)) as served:
            page = opened(tab, served)
            seen = page.run("[...document.querySelectorAll('.key .name')].map((e) => e.textContent)")
            assert sorted(seen) == sorted(names)
            assert not page.run(HARM)
            assert page.logs == []


def test_w4_tasks_and_failures_are_shown_literally(
    tab: Callable[[], chromium.Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, text in enumerate(PAYLOADS[:6]):
        monkeypatch.setattr(Sprites, "texts", lambda world, text=text: (text,) * world.num_envs)
        with toy.serving(toy.game(tmp_path / str(number))) as served:
            page = opened(tab, served)
            page.wait(f"document.querySelector('#task-words').textContent === {json.dumps(text)}")
            toy.walk(served.game).fail = text
            page.key("ArrowUp")
            page.wait(f"document.querySelector('#alert-words').textContent.includes({json.dumps(text)})")
            assert not page.run(HARM)
            assert page.logs == []


def test_the_keyboard_is_enough(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served)
    where = "document.querySelector('#moment-words').textContent"
    page.key("ArrowDown")
    page.wait(f"{where} === '1 / 1'")
    page.key("ArrowUp")
    page.wait(f"{where} === '2 / 2'")
    page.key("[")
    page.wait(f"{where} === '1 / 2'")
    page.key("ArrowLeft")
    page.wait("document.querySelectorAll('#branches li').length === 2")
    page.key("]")
    page.key(".")
    page.wait(f"{where} === '3 / 3'")
    page.key(" ")
    page.wait("document.querySelector('#run').getAttribute('aria-pressed') === 'true'")
    page.wait("Number(document.querySelector('#moment').value) > 4")
    page.key(" ")
    page.wait("document.querySelector('#run').getAttribute('aria-pressed') === 'false'")
    page.wait("document.querySelector('#obeyed').textContent === '100 %'")
    assert page.run("/^[0-9]+ ms$/.test(document.querySelector('#latency').textContent)")
    assert page.run("document.querySelectorAll('#latencies .bar').length > 0")
    pictures = "['#pane-dream canvas', '#pane-real canvas', '.key[data-key=\"0:2\"] canvas']"
    drawn = page.run(f"""{pictures}.map((where) => {{
        const picture = document.querySelector(where);
        const bytes = picture.getContext('2d').getImageData(0, 0, picture.width, picture.height).data;
        return new Set(bytes.filter((_, i) => i % 4 === 0)).size;
    }})""")
    assert min(drawn) > 1, "the dream, the real world and what a key changes are drawn"

    reached = []
    for _ in range(40):  # Tab reaches every control
        page.key("Tab")
        reached.append(page.run(FOCUS))
    for control in (
        "stage",
        "moment",
        "run",
        "step",
        "back",
        "paint",
        "again",
        "save",
        "measure",
        "0:1",
        "go",
        "quiet",
    ):
        assert control in reached, f"Tab does not reach {control}: {reached}"
    page.run("document.querySelector('#save').focus()")
    page.key("Enter")
    page.wait("document.querySelector('#told').textContent.startsWith('Saved')")
    assert page.logs == []


def test_two_branches_are_compared_until_asked_no_longer(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served)
    where = "document.querySelector('#moment-words').textContent"
    for key, at in (("ArrowDown", "1 / 1"), ("[", "0 / 1"), ("ArrowRight", "1 / 1")):
        page.key(key)
        page.wait(f"{where} === '{at}'")
    page.wait("document.querySelectorAll('#branches li').length === 2")
    button = "document.querySelectorAll('#branches .acts button:first-child')[0]"
    assert page.run("document.querySelector('#pane-other').hidden")
    page.run(f"{button}.focus(); {button}.click()")
    page.wait("!document.querySelector('#pane-other').hidden")
    assert page.run(f"document.activeElement === {button}"), "who presses it by keyboard stays there"
    page.wait("document.querySelector('#other-words').textContent.startsWith('differs in')")
    assert page.run(f"{button}.getAttribute('aria-pressed')") == "true"
    first = page.run("document.querySelectorAll('#branches .go')[0].textContent")
    assert page.run("document.querySelector('#other-name').textContent") == first
    shown = page.run("""['dream', 'other'].map((name) => {
        const picture = document.querySelector(`#pane-${name} canvas`);
        return [...picture.getContext('2d').getImageData(0, 0, picture.width, picture.height).data].join();
    })""")
    assert shown[0] != shown[1]
    page.key("[")
    page.wait("document.querySelector('#other-words').textContent === 'the same picture'")
    page.run("location.reload()")
    page.wait(READY)
    page.wait("document.querySelector('#pane-other')?.hidden === false")
    page.wait("document.querySelectorAll('#branches li').length === 2")
    page.wait(f"document.querySelector('#other-name').textContent === '{first}'")
    assert page.run(f"{button}.getAttribute('aria-pressed')") == "true"
    page.run(f"{button}.click()")
    page.wait("document.querySelector('#pane-other').hidden")
    assert page.logs == []


def test_an_event_is_typed_and_what_does_not_fit_is_said(tab: Callable[[], chromium.Page], tmp_path: Path) -> None:
    frame = torch.full((3, toy.SIZE, toy.SIZE), 26, dtype=torch.uint8)
    played = toy.game(tmp_path, env=None, frame=frame)
    world = toy.Weather()
    played.speeches = (Speech("actions", world),)
    played.shelf = replace(played.shelf, spaces={"actions": world.space})
    with toy.serving(played) as served:
        page = opened(tab, served)
        page.wait("!document.querySelector('#event').hidden")
        page.run("document.querySelector('#event-words').focus()")
        for letter in "snow":
            page.key(letter)
        page.key("Enter")
        page.wait("document.querySelector('#dream-words').textContent === 'move stay, event snow'")
        script = "[...document.querySelector('#pane-dream canvas').getContext('2d').getImageData(0, 0, 1, 1).data]"
        assert page.run(script) == [255, 255, 255, 255]
        assert page.run("document.querySelector('#moment-words').textContent") == "1 / 1"
        assert page.run("document.querySelector('#event-words').value") == ""
        page.run("document.querySelector('#event-words').value = 'a long story'")
        page.run("document.querySelector('#event button').click()")
        page.wait("document.querySelector('#alert-words').textContent.includes('does not fit')")
        assert page.run("document.querySelector('#moment-words').textContent") == "1 / 1"
        assert page.logs == []


def test_painting_needs_no_pointer(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served)
    page.run("document.querySelector('#paint').focus()")
    page.key("Enter")
    page.wait("document.querySelector('#stage') === document.activeElement")
    for key in ["ArrowLeft"] * 3 + ["ArrowUp", " "]:
        page.key(key)
    page.key("Escape")
    assert page.run("document.querySelector('#tools').hidden")
    page.run("document.querySelector('#colour').value = '#1020f0'; document.querySelector('#paint').focus()")
    page.key("Enter")
    for key in ("ArrowRight", "ArrowDown", " "):
        page.key(key)
    page.key("Enter")
    page.wait("document.querySelector('#dream-words').textContent === 'after the brush'")
    script = "[...document.querySelector('#pane-dream canvas').getContext('2d').getImageData(18, 18, 1, 1).data]"
    assert page.run(script) == [0x10, 0x20, 0xF0, 255]
    assert page.run("document.querySelector('#moment-words').textContent") == "1 / 1"


def test_fingers_and_gamepads_press_keys(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served, 360, 780)
    page.size(360, 780, touch=True)
    where = "document.querySelector('#moment-words').textContent"
    box = page.run(
        "(({ x, y }) => [x + 9, y + 9])(document.querySelector('[data-key=\"0:2\"]').getBoundingClientRect())"
    )
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": box[0], "y": box[1]}])
    page.wait("document.querySelector('[data-key=\"0:2\"]').classList.contains('down')")
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.wait(f"{where} === '1 / 1'")
    assert page.run("document.querySelectorAll('.key.down').length") == 0
    page.run("""(() => {
        globalThis.pad = { buttons: Array.from({ length: 16 }, () => ({ pressed: false })), axes: [0, 0] };
        navigator.getGamepads = () => [globalThis.pad];
        dispatchEvent(new Event('gamepadconnected'));
    })()""")
    for press, want in (("buttons[12].pressed = true", "up"), ("axes[0] = -1", "left")):
        page.run(f"pad.{press}")
        page.wait(f"document.querySelector('#dream-words').textContent === '{want}'")
        page.run("pad.buttons[12].pressed = false; pad.axes[0] = 0; 1")
        page.wait("document.querySelectorAll('.key.down').length === 0")
    page.run("pad.buttons[4].pressed = true")
    page.wait(f"{where} === '2 / 3'")
    page.run("pad.buttons[4].pressed = false; pad.buttons[12].pressed = true")
    page.wait("document.querySelectorAll('.key.down').length === 1")
    page.run("navigator.getGamepads = () => []")  # unplugged while it is held
    page.wait("document.querySelectorAll('.key.down').length === 0")


def test_a_pasted_picture_lands_where_the_brush_is(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served)
    page.run("document.querySelector('#paint').click()")
    page.run("""(async () => {
        const board = new OffscreenCanvas(4, 4);
        const ink = board.getContext('2d');
        ink.fillStyle = '#00ff40';
        ink.fillRect(0, 0, 4, 4);
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([await board.convertToBlob()], 'x.png', { type: 'image/png' }));
        document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
    })()""")
    page.wait("!document.querySelector('#undo').disabled")
    page.run("document.querySelector('#apply').click()")
    page.wait("document.querySelector('#dream-words').textContent === 'after the brush'")
    frame = served.table.seats[next(iter(served.table.seats))].session.moment().frame
    assert frame[:, 16:20, 16:20].permute(1, 2, 0).reshape(-1, 3).unique(dim=0).tolist() == [[0, 255, 64]]


def test_a_name_moves_a_code_and_what_was_measured_stays(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served)
    page.run("document.querySelectorAll('[name=speech]')[1].click()")
    page.wait(
        "document.querySelector('.name').textContent === 'code 0' && document.querySelector('.share').textContent"
    )
    page.run("document.querySelector('#naming').open = true; document.querySelectorAll('#names input')[1].focus()")
    for letter in "down":
        page.key(letter)
    page.key("Tab")
    page.wait("document.querySelector('[data-place=down]')?.textContent.includes('down')")
    assert page.run("document.querySelector('[data-place=down] .share').textContent.endsWith('%')")
    page.run("document.querySelector('#stage').focus()")
    page.key("ArrowDown")
    page.wait("document.querySelector('#dream-words').textContent === 'down'")


def test_screen_readers_are_told_what_everything_is(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served)
    page.key("ArrowDown")
    page.wait("document.querySelector('#moment-words').textContent === '1 / 1'")
    page.run("document.querySelector('#paint').click(); document.querySelector('#naming').open = true")
    tree = page.tree()
    for role, name in tree:
        if role in NAMED:
            assert name.strip(), f"a {role} has no name"
    names = {name for _, name in tree}
    assert {"Moment of this branch", "Real time", "Step", "Save", "Paint", "New level", "actions", "codes"} <= names
    assert any(re.fullmatch(r"up, on up arrow or W; changes .+ % of the picture", name) for name in names)
    assert any(re.fullmatch(r"dreamt frame 1 of 1, down", name) for name in names)
    assert any(name.startswith("start 1, 2 frames, you are here") for name in names)
    roles = [role for role, _ in tree]
    assert roles.count("heading") >= 4
    assert "main" in roles
    assert "status" in roles


@pytest.mark.parametrize(("width", "height"), [(360, 780), (1280, 900), (3840, 2160)])
def test_nothing_overflows_and_fingers_find_their_keys(
    tab: Callable[[], chromium.Page], served: toy.Served, width: int, height: int
) -> None:
    page = opened(tab, served, width, height)
    page.run("document.querySelector('#paint').click(); document.querySelector('#naming').open = true")
    page.run("document.querySelector('footer details').open = true")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    small = """[...document.querySelectorAll('button, summary, input:not([type=range])')]
        .filter((e) => e.checkVisibility()).map((e) => [e, (e.closest('label') ?? e).getBoundingClientRect()])
        .filter(([, box]) => box.height < 28 || box.width < 28).map(([e]) => e.id || e.textContent)"""
    assert page.run(small) == []
    share = page.run("document.querySelector('#pane-dream canvas').getBoundingClientRect().width / innerWidth")
    assert share > (0.55 if width < 500 else 0.2)
    assert page.run("getComputedStyle(document.querySelector('#pane-dream canvas')).imageRendering") == "pixelated"


def test_the_page_is_light_or_dark_as_the_reader_wants(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page = opened(tab, served)
    colours = []
    for dark in (False, True):
        page.size(1280, 900, dark)
        script = "(({ backgroundColor, color }) => [backgroundColor, color])(getComputedStyle(document.body))"
        colours.append(page.run(script))
    (light, on_light), (dark_paper, on_dark) = ([_brightness(c) for c in pair] for pair in colours)
    assert light > 240 > 60 > on_light
    assert dark_paper < 40 < 200 < on_dark


def _brightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_a_fault_of_the_model_is_one_message_on_the_page(tab: Callable[[], chromium.Page], served: toy.Served) -> None:
    page, walk = opened(tab, served), toy.walk(served.game)
    page.key("ArrowDown")
    page.wait("document.querySelector('#moment-words').textContent === '1 / 1'")
    walk.fail = "<b id=boom>weights are gone"
    page.key("ArrowUp")
    page.wait("!document.querySelector('#alert').hidden")
    told = page.run("document.querySelector('#alert-words').textContent")
    assert told == "the model failed with ValueError: <b id=boom>weights are gone"
    assert ("alert", "") in [(role, "") for role, _ in page.tree()]
    walk.fail = ""
    page.key("ArrowUp")
    page.wait("document.querySelector('#moment-words').textContent === '2 / 2'")
    assert page.run("document.querySelectorAll('#boom').length") == 0


def test_the_token_leaves_the_address_and_a_reload_finds_the_session(
    tab: Callable[[], chromium.Page], served: toy.Served
) -> None:
    page = opened(tab, served)
    page.key("ArrowDown")
    page.wait("document.querySelector('#moment-words').textContent === '1 / 1'")
    assert served.guard.token not in page.run("location.href")
    page.call("Page.reload")
    time.sleep(0.2)
    page.wait(READY)
    page.wait("document.querySelector('#moment-words').textContent === '1 / 1'")
    assert len(served.table.seats) == 1
    stranger = tab()
    stranger.open(served.guard.url.partition("#")[0])
    stranger.wait("document.querySelector('#line-words')?.textContent.includes('whole address')")
    assert len(served.table.seats) == 1

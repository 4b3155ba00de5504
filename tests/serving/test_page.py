"""The page in a real browser: by mouse and by keyboard, with errors, a token, and in both colour schemes."""

import io
import re
import shutil
from pathlib import Path

import pytest

for package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx", "playwright"):
    pytest.importorskip(package, reason=f"needs {package}: pip install 'gankit[serve]' httpx playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("needs Chromium on the PATH", allow_module_level=True)

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import expect, sync_playwright  # noqa: E402
from serving_making import noise, png, running  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser, service):
    opened = browser.new_page(viewport={"width": 1100, "height": 800})
    opened.faults = []
    opened.on("pageerror", lambda error: opened.faults.append(str(error)))
    opened.on("console", lambda line: opened.faults.append(line.text) if "Content Security" in line.text else None)
    opened.goto(service.url)
    expect(opened.locator("#limits")).to_contain_text("1.0 MiB and 0.01 megapixels")
    yield opened
    assert opened.faults == []
    opened.close()


def upload(name="a.png", data=None):
    return {"name": name, "mimeType": "image/png", "buffer": png(noise(40, 60)) if data is None else data}


def test_an_image_is_upscaled_compared_and_downloaded(page, client):
    expect(page.locator("#run")).to_be_disabled()
    page.set_input_files("#file", upload())
    page.click("#run")
    result = page.locator(".result")
    expect(result.locator(".facts")).to_contain_text("120×80")
    expect(result.locator(".facts")).to_have_text(re.compile(r" \d+ % of the time in the engine$"))
    handle = result.get_by_role("slider", name="Before and after of a.png")
    handle.focus()
    for key, value in (("ArrowRight", "52"), ("ArrowLeft", "50"), ("PageUp", "60"), ("Home", "0"), ("End", "100")):
        page.keyboard.press(key)
        assert handle.get_attribute("aria-valuenow") == value
    box = result.locator(".compare").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 20)
    assert handle.get_attribute("aria-valuenow") == "25"
    with page.expect_download() as download:
        result.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "a-tiny.png"
    served = client.post("/upscale", files={"image": ("a.png", png(noise(40, 60)))})
    assert Path(download.value.path()).read_bytes() == served.content


def test_the_slider_shows_both_images(page):
    """Left of the handle lies the source, right of it the result."""
    page.set_input_files("#file", upload(data=png(np.full((40, 60, 3), (250, 0, 0), np.uint8))))
    page.click("#run")
    compare = page.locator(".compare")
    expect(page.locator(".result .after")).to_be_visible()
    page.wait_for_timeout(200)
    shot = np.asarray(Image.open(io.BytesIO(compare.screenshot())).convert("RGB")).astype(int)
    quarter = shot[shot.shape[0] // 4, shot.shape[1] // 4], shot[shot.shape[0] // 4, 3 * shot.shape[1] // 4]
    assert np.abs(quarter[0] - (250, 0, 0)).max() < 8
    assert np.abs(quarter[0] - quarter[1]).max() > 8  # the tiny network changes colours


def test_everything_by_keyboard(page):
    page.locator("input[value=upscale]").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("input[value=generate]").is_checked()
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "class"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "run"
    page.keyboard.press("Enter")
    expect(page.locator(".result h2")).to_have_text("cgan-0.png")
    expect(page.locator("#status")).to_have_text("1 done.")


def test_dropped_images_and_what_fails(page):
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["no image"], "notes.txt"));
            data.items.add(new File([new Uint8Array(2 ** 21)], "large.png"));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    expect(page.locator("#error")).to_have_text("large.png has 2.0 MiB; the service takes 1.0 MiB.")
    page.set_input_files("#file", upload("b.png"))
    expect(page.locator("#chosen li")).to_have_count(2)
    page.click("#run")
    expect(page.locator("#error")).to_contain_text("notes.txt: is not a PNG")
    expect(page.locator(".result")).to_have_count(1)
    page.get_by_role("button", name="Remove notes.txt").click()
    expect(page.locator("#run")).to_have_text("Upscale")


def test_names_are_text_and_not_html(page):
    page.set_input_files("#file", upload("<img src=x onerror=alert(1)>.png"))
    expect(page.locator("#chosen span")).to_have_text("<img src=x onerror=alert(1)>.png")
    assert page.locator("#chosen img").count() == 1


def test_the_token(browser, files):
    with running(files[:1], token="s3cret") as made:
        page = browser.new_page()
        page.goto(made.url)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#error")).to_have_text("The token is wrong.")
        page.get_by_label("Token").fill("s3cret")
        page.keyboard.press("Enter")
        expect(page.locator("#model option")).to_have_count(1)
        page.set_input_files("#file", upload())
        page.click("#run")
        expect(page.locator(".result")).to_have_count(1)
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(browser, service, scheme):
    """At least 4.5 to 1, WCAG's level AA, in both colour schemes."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(service.url)
    expect(page.locator("#limits")).to_contain_text("MiB")
    read = """(selector) => {
        let node = document.querySelector(selector);
        const colour = getComputedStyle(node).color;
        while (getComputedStyle(node).backgroundColor === "rgba(0, 0, 0, 0)") node = node.parentElement;
        return [colour, getComputedStyle(node).backgroundColor];
    }"""
    for selector in ("h1", "#about", "#summary", "#limits", "#empty", ".tasks input:checked + span", "#run"):
        assert contrast(*page.evaluate(read, selector)) >= 4.5, selector
    page.close()


def contrast(first, second):
    """The contrast ratio of two CSS colours (WCAG 2.2)."""

    def luminance(colour):
        values = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted(map(luminance, (first, second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_the_strength_is_at_first_that_of_the_model_itself(browser):
    """The faithful models of the pairs, of which one is the default, do not run as the sharp ones."""
    with running((), hosts=frozenset({"127.0.0.1"})) as made:
        opened = browser.new_page()
        opened.goto(made.url)
        options = opened.locator("#model option")
        expect(options.first).to_be_attached(timeout=120_000)  # the facts of all weights are read first
        found = {}
        for name in options.all_inner_texts():
            opened.select_option("#model", name)
            if opened.locator("#strength-field").is_visible():
                found[name] = float(opened.locator("#strength").input_value())
        opened.close()
    assert found == {"srgan": 1, "srresnet": 0, "edsr-sharp": 1, "edsr-photo": 0}

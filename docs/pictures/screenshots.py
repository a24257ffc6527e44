"""The pictures in docs/painting.md made anew: python docs/pictures/screenshots.py

Needs a Chromium (the one that CHROMIUM names, or playwright's). Writes page-begin.png, page.png, page-listen.png,
page-dark.png and phone.png of the chat page, and attention.png of the command, beside itself, each below 300 kB.
"""

import io
import os
from pathlib import Path
from typing import Any

import click
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from painter import Dialogue, Painter, figures, interviewer, models, page
from painter.studio import Studio

SHOTS = (("page", (1180, 900), "light"), ("page-dark", (1180, 900), "dark"), ("phone", (390, 844), "light"))
SAID = Dialogue(
    "there is a large red circle in the top left with three other objects",
    (
        ("what is the ground like", "sand"),
        ("what is at the top right", "a small blue square"),
        ("what is at the bottom left", "a small green triangle"),
        ("what is at the bottom right", "a large yellow triangle"),
    ),
)


@click.command()
@click.option("--run", type=click.Path(path_type=Path), help="A run's or exported model's folder. [default: shipped]")
@click.option("--weights", help="Folder of the encoders' weights, as for chatpainter-paint.")
@click.option("--out", default=Path(__file__).parent, show_default=True, type=click.Path(path_type=Path))
def main(run: Path | None, weights: str | None, out: Path) -> None:
    """Talk to the page and take its picture."""
    model = models.SHIPPED if run is None else models.find(run)
    found = interviewer.find(model.path)
    if found is None:
        raise click.ClickException(f"{run}: no interviewer.json and no data/corpus/train.parquet to ask questions from")
    painter = Painter.from_run(model.path, weights=weights)
    out.mkdir(parents=True, exist_ok=True)
    if painter.listens:
        figures.attended(painter, SAID, out / "attention.png")
    address, app = page.launch(page.build(Studio.of(painter, found, model.name)), wait=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
        for name, (width, height), scheme in SHOTS:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            context.set_default_timeout(300_000)
            tab = context.new_page()
            tab.goto(address)
            tab.wait_for_selector("#cp-caption textarea")
            if name == "page":
                save(tab, out / "page-begin.png")
            talk(tab)
            save(tab, out / f"{name}.png", full=name == "phone")
            if name == "page" and painter.listens:
                tab.click("#cp-listen")
                tab.wait_for_selector("#cp-heard")
                tab.mouse.move(0, 0)
                save(tab, out / "page-listen.png")
            context.close()
        browser.close()
    app.close()


def talk(tab: Page) -> None:
    """Say the caption and every round, as a visitor who has a picture in mind."""
    tab.fill("#cp-caption textarea", SAID.caption)
    tab.click("#cp-paint")
    wait_for_answer(tab)
    for question, answer in SAID.rounds:
        before = tab.get_attribute("#cp-picture", "src")
        tab.fill("#cp-question textarea", question)
        tab.fill("#cp-answer textarea", answer)
        tab.click("#cp-repaint")
        tab.wait_for_function("before => document.querySelector('#cp-picture')?.src !== before", arg=before)
        wait_for_answer(tab)
    tab.mouse.move(0, 0)


def wait_for_answer(tab: Page) -> None:
    """Until the cursor stands where the next answer goes, which the page does last."""
    tab.wait_for_function("document.activeElement.closest('#cp-answer')")


def save(tab: Page, path: Path, full: bool = False) -> None:
    """A screenshot, in 255 colours where it would be large."""
    tab.wait_for_timeout(400)
    content: Any = io.BytesIO(tab.screenshot(full_page=full, animations="disabled"))
    shot = Image.open(content).convert("RGB")
    shot.save(path, optimize=True)
    if path.stat().st_size >= 300_000:
        shot.quantize(255).save(path, optimize=True)
    click.echo(f"{path}: {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()

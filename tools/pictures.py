"""Makes the pictures of the README again, from models that a server serves and from the page in front of it.

Train lenet5, vae, wgan_gp, unet, himmelblau and efficientnet_lite0, start `ladle serve` and `ladle gateway`, and run
this from the repository's root. The screenshots need Chromium with its driver. That of TensorBoard, in docs/train.md,
needs a TensorBoard that shows the `tensorboard` folder of one run of mlp.

    python -m tools.pictures
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from ladle import Client

Array = np.ndarray[Any, Any]

MARK = (240, 110, 30)

SIDE = 480
"""Pixels of a side of each square picture."""
GAP = 2
"""Pixels between the tiles of a picture."""
SEED = 2
GARMENTS = 6
"""Garments of a side."""
CORNERS = (7, 1, 2, 3)
"""The samples of lenet5 that the latent walk leads to: upper left and right, lower left and right."""
STEPS = 8
"""Images of a side of the latent walk."""
TILES = (0, 6)
"""The samples that are segmented."""
STARTS = ("0.5,0.5", "-0.5,0.8", "-0.5,-1", "0.8,-1")
VIEW = (1280, 880)
"""The window of the screenshot, in CSS pixels; it grows until the whole page is seen."""
SHARPNESS = 1.5
"""Pixels of the screenshot for each CSS pixel."""
ROUTE, PHOTOGRAPH = "models/efficientnet_lite0", 3
"""What the screenshot shows: a model, and which of its samples is asked about."""
TENSORBOARD_VIEW, TENSORBOARD_TAGS = (1440, 925), "^accuracy|loss|first|predictions"
"""The window of TensorBoard's screenshot, and the charts and pictures in it."""
TENSORBOARD_SECONDS = 30
TENSORBOARD_FOLDER = Path("docs/notes")
"""Not among the README's pictures."""
WARM_ANSWERS = 8
"""Answers before the one that is shown: a server's first ones take longer."""
COLOURS = {"garments": 64, "walk": 64, "masks": 128}
"""Fewer colours than 256 where nobody sees a difference."""
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
)


def tiled(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures of one size in rows, the whole SIDE pixels wide."""
    across, down = len(rows[0]), len(rows)
    width = (SIDE - GAP * (across - 1)) / across
    height = width * rows[0][0].height / rows[0][0].width
    sheet = Image.new("RGB", (SIDE, round(down * height + GAP * (down - 1))), "white")
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            left, top = round(j * (width + GAP)), round(i * (height + GAP))
            size = (round(j * (width + GAP) + width) - left, round(i * (height + GAP) + height) - top)
            sheet.paste(tile.convert("RGB").resize(size, Image.Resampling.LANCZOS), (left, top))
    return sheet


def square(images: Array) -> Image.Image:
    """Grey images uint8 [n * n, h, w, 1] in n rows of n."""
    side = round(len(images) ** 0.5)
    tiles = [Image.fromarray(image[..., 0]) for image in images]
    return tiled([tiles[i * side : (i + 1) * side] for i in range(side)])


def samples(repository: Path, name: str) -> list[Path]:
    """The sample images that the newest version of a model carries, in order; its masks are no samples."""
    newest = max((child for child in (repository / name).iterdir() if child.name.isdigit()), key=lambda v: int(v.name))
    found = (newest / "assets.extra" / "samples").glob("*.png")
    return sorted((path for path in found if path.stem.isdigit()), key=lambda path: int(path.stem))


def garments(client: Client) -> Image.Image:
    """New garments, each from noise."""
    return square(client.generate("wgan_gp", n=GARMENTS**2, seed=SEED))


def walk(client: Client, repository: Path) -> Image.Image:
    """The images of the codes between the codes of four real images."""
    given = samples(repository, "lenet5")
    upper_left, upper_right, lower_left, lower_right = (client.encode("vae", given[i]) for i in CORNERS)
    share = np.linspace(0, 1, STEPS, dtype=np.float32)
    across, down = share[None, :, None], share[:, None, None]
    codes = (1 - down) * ((1 - across) * upper_left + across * upper_right) + down * (
        (1 - across) * lower_left + across * lower_right
    )  # [steps, steps, latent_dim]
    return square(client.decode("vae", codes.reshape(STEPS * STEPS, -1)))


def masks(client: Client, repository: Path) -> Image.Image:
    """Real images, and below each the same with the pixels that U-Net calls a nucleus in colour."""
    paths = [samples(repository, "unet")[number] for number in TILES]
    images = [stretched(Image.open(path)) for path in paths]
    answers = [client.segment("unet", path).class_map for path in paths]
    return tiled([images, [marked(image, answer) for image, answer in zip(images, answers, strict=True)]])


def stretched(image: Image.Image) -> Image.Image:
    """The image four times as large, its brightness from black to white: dim microscope pictures become visible."""
    grey = np.asarray(image.convert("L"), np.float32)
    low, high = np.percentile(grey, (1, 99.5))
    pixels = np.clip((grey - low) / max(high - low, 1) * 255, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((image.width * 4, image.height * 4), Image.Resampling.BICUBIC)


def marked(image: Image.Image, class_map: Array) -> Image.Image:
    """The image with MARK over every pixel whose class is not background; class_map is int64 [h, w]."""
    opacity = Image.fromarray(np.where(class_map > 0, 130, 0).astype(np.uint8))
    mask = opacity.resize(image.size, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", image.size, MARK), image.convert("RGB"), mask)


def asked(address: str, *verb: str) -> Image.Image:
    """The picture that a verb of `ladle` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        command = [sys.executable, "-m", "ladle", *verb, "--address", address, "--no-inline", "--output", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A Chromium that is told nothing of earlier ones."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver_path:
        raise FileNotFoundError("got no chromium; expected it and chromedriver on the path; install both")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        for switch in (*SWITCHES, f"--user-data-dir={profile}", f"--force-device-scale-factor={SHARPNESS}"):
            options.add_argument(switch)
        options.binary_location = chromium
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            yield driver
        finally:
            driver.quit()


def screenshot(page: str, route: str, sample: int) -> Image.Image:
    """The page with the answer to one of a model's samples."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with browser() as driver:
        metrics = {"width": VIEW[0], "height": VIEW[1], "deviceScaleFactor": SHARPNESS, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(f"{page}#/{route}")
        wait = WebDriverWait(driver, 30)
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".sample"))[sample].click()
        for _ in range(WARM_ANSWERS):
            driver.find_elements(By.CSS_SELECTOR, ".sample")[sample].click()
            wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".out .latency b"))
            wait.until(lambda _: not driver.find_elements(By.CSS_SELECTOR, "[aria-busy=true]"))
        driver.execute_script("document.activeElement.blur()")
        # The window is as high as the page, or its lower edge would cut a card.
        height = max(VIEW[1], driver.execute_script("return document.documentElement.scrollHeight"))
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**metrics, "height": height})
        return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def tensorboard(page: str) -> Image.Image:
    """TensorBoard's first page: two charts, one image, and a grid of 25."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with browser() as driver:
        metrics = dict(zip(("width", "height"), TENSORBOARD_VIEW, strict=True))
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**metrics, "deviceScaleFactor": 1, "mobile": False}
        )
        driver.get(f"{page}?tagFilter={quote(TENSORBOARD_TAGS)}&smoothing=0#timeseries")
        wait = WebDriverWait(driver, TENSORBOARD_SECONDS)
        wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "button.settings-button"))[0].click()
        wait.until(lambda _: not driver.find_elements(By.CSS_SELECTOR, "metrics-dashboard-settings"))
        wait.until(lambda _: len(driver.find_elements(By.CSS_SELECTOR, "image-card img")) == 2)
        wait.until(lambda _: len(driver.find_elements(By.CSS_SELECTOR, "scalar-card-data-table")) == 2)
        wait.until(
            lambda _: driver.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth)")
        )
        return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def packed(image: Image.Image, colours: int) -> bytes:
    """A PNG of at most `colours` colours: small, and sharp where text and edges are."""
    buffer = io.BytesIO()
    image.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description="Make the pictures of the README.")
    parser.add_argument("--address", default="grpc://localhost:8500", help="the server (default: %(default)s)")
    parser.add_argument("--page", default="http://localhost:8080/", help="the gateway (default: %(default)s)")
    parser.add_argument("--tensorboard", metavar="URL", help="a TensorBoard; without it, its picture is left out")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("docs/pictures"), help="default: %(default)s")
    parser.add_argument("names", nargs="*", help="which of the pictures (default: all)")
    given = parser.parse_args(argv)
    given.output.mkdir(parents=True, exist_ok=True)
    with Client(given.address) as client:
        ways: dict[str, Callable[[], Image.Image]] = {
            "page": lambda: screenshot(given.page, ROUTE, PHOTOGRAPH),
            "garments": lambda: garments(client),
            "masks": lambda: masks(client, given.repository),
            "walk": lambda: walk(client, given.repository),
            "descents": lambda: asked(given.address, "minimise", "himmelblau", *STARTS).resize(
                (SIDE, SIDE), Image.Resampling.LANCZOS
            ),
        }
        if given.tensorboard:
            ways["tensorboard"] = lambda: tensorboard(given.tensorboard)
        for name in given.names or ways:
            data = packed(ways[name](), COLOURS.get(name, 256))
            folder = TENSORBOARD_FOLDER if name == "tensorboard" else given.output
            (folder / f"{name}.png").write_bytes(data)
            print(f"{folder / name}.png  {len(data) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Each panel: draw, upload, type, roll, slide, and what it then shows."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys


def pixels(source: str) -> np.ndarray[Any, Any]:
    """The pixels of a data: URL."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def test_a_sample_is_classified_and_compared_with_the_truth(page: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.all(".sample")[2].click()
    page.one(".truth.right", "shirt")
    assert page.one(".bars .label").text.startswith("shirt")
    page.one(".latency", "Model server")
    page.one(".latency", "Round trip")
    assert pixels(page.sources(".plate img")[1]).tolist() == [[0, 0], [255, 0]]  # what the network saw


def drag(page: Any, row: int) -> None:
    """A stroke through the right half of the canvas, in the upper (0) or the lower (1) row of the image."""
    canvas = page.one("canvas.draw")
    width = canvas.size["width"]
    actions = ActionChains(page.driver)
    actions.move_to_element_with_offset(canvas, width // 8, (2 * row - 1) * width // 4).click_and_hold()
    for step in range(1, 8):
        actions.move_to_element_with_offset(canvas, width // 8 + step * width // 25, (2 * row - 1) * width // 4)
    actions.release().perform()


def test_a_drawing_is_classified_undone_erased_and_cleared(page: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.one(".choice label", "Draw").click()
    drag(page, 0)
    page.one(".answer", "coat")
    assert not page.all(".truth")
    seen = lambda: pixels(page.sources(".plate img")[1])  # noqa: E731
    page.wait(lambda: seen()[0, 1] > 10)
    lit = int(seen()[0, 1])
    page.one(".choice label", "Eraser").click()
    drag(page, 0)
    page.one(".blank", "Draw something")  # the eraser is wider than the pen
    page.one("button", "Undo").click()
    page.wait(lambda: page.sources(".plate img") and seen()[0, 1] == lit)
    page.one("button", "Clear").click()
    page.one(".blank", "Draw something")
    assert not page.all(".answer")
    assert not page.all(".code:not([hidden])")


def test_a_blank_canvas_is_not_classified(page: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.one(".choice label", "Draw").click()
    page.one(".blank", "Draw something")
    page.one(".choice label", "Eraser").click()
    drag(page, 0)
    page.one(".choice label", "Pen").click()
    drag(page, 1)
    page.one(".answer", "shirt")
    page.one("button", "Undo").click()
    page.one(".blank", "Draw something")
    assert not page.all(".answer")


def test_no_answer_stays_beside_another_input(page: Any, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255], [0, 0]], np.uint8)).save(tmp_path / "coat.png")
    (tmp_path / "notes.txt").write_text("notes")
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.one(".choice label", "Upload").click()
    page.one(".blank", "Choose an image.")
    assert not page.all(".answer, .latency > *, .code:not([hidden])")
    page.all("input[type=file]")[0].send_keys(str(tmp_path / "coat.png"))
    page.one(".answer", "coat")
    page.one(".code pre")
    page.one(".choice label", "Draw").click()
    page.one(".blank", "Draw something")
    page.one(".choice label", "Upload").click()
    page.one(".answer", "coat")  # the file is still chosen
    page.all("input[type=file]")[0].send_keys(str(tmp_path / "notes.txt"))
    page.one("[role=alert]", "notes.txt")
    assert not page.all(".answer, .latency > *, .code:not([hidden]), .file:not([hidden])")


def test_an_uploaded_file_is_classified_and_can_be_inverted(page: Any, tmp_path: Path) -> None:
    Image.fromarray(np.array([[255, 255], [0, 255]], np.uint8)).save(tmp_path / "dark.png")
    page.open("models/classifier")
    page.one(".choice label", "Upload").click()
    page.wait(lambda: page.all("input[type=file]"))[0].send_keys(str(tmp_path / "dark.png"))
    page.one(".file", "dark.png")
    page.one(".answer", "boot")
    page.one(".check").click()
    page.one(".answer", "shirt")
    page.one(".file", "inverted-dark.png")


def test_an_image_is_dropped_and_another_pasted(page: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    give = """
        const [kind, corner] = arguments;
        const canvas = new OffscreenCanvas(2, 2);
        const context = canvas.getContext("2d");
        context.fillRect(0, 0, 2, 2);
        context.fillStyle = "white";
        context.fillRect(corner % 2, Math.floor(corner / 2), 1, 1);
        return canvas.convertToBlob().then((blob) => {
          const data = new DataTransfer();
          data.items.add(new File([blob], "given.png", { type: "image/png" }));
          const picker = document.querySelector(".picker");
          if (kind === "drop") picker.dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
          else document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        });"""
    page.run(give, "drop", 1)
    page.one(".answer", "coat")
    page.one(".file", "given.png")  # the file is the input now, not the sample
    page.run(give, "paste", 2)
    page.one(".answer", "shirt")


def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n, not really")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(65 * 2**20)
    page.forgiven += ["415", "422"]
    page.open("models/classifier")
    page.one(".choice label", "Upload").click()
    given = page.wait(lambda: page.all("input[type=file]"))[0]
    given.send_keys(str(tmp_path / "notes.txt"))
    page.one("[role=alert]", "Got notes.txt, which is text/plain; expected an image.")
    given.send_keys(str(tmp_path / "huge.png"))
    page.one("[role=alert]", "Got huge.png with 65.0 MiB; expected at most 64 MiB.")
    given.send_keys(str(tmp_path / "broken.png"))
    assert page.one("[role=alert]", "image").text.count(".") == 1


def test_a_large_photograph_is_made_smaller_and_another_format_becomes_png(page: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 40, (1500, 3200, 3), np.uint8)
    noise[750:, :1600] = 255  # the third of four quarters
    Image.fromarray(noise).save(tmp_path / "photo.jpg", quality=95)
    Image.fromarray(np.array([[0, 255], [0, 0]], np.uint8)).save(tmp_path / "coat.gif")
    page.open("models/classifier")
    page.one(".choice label", "Upload").click()
    given = page.wait(lambda: page.all("input[type=file]"))[0]
    given.send_keys(str(tmp_path / "photo.jpg"))
    page.one(".answer", "shirt")
    page.one(".file", "made smaller: 3200×1500 pixels became 1600×750")
    assert page.one(".file a").get_attribute("download") == "sent-photo.jpg"
    sent = page.run("return document.querySelector('.plate img').naturalWidth")
    assert sent == 1600
    given.send_keys(str(tmp_path / "coat.gif"))
    page.one(".answer", "coat")
    page.one(".file", "sent as PNG: the gateway does not read image/gif")


def test_a_picture_is_taken_with_the_camera(page: Any) -> None:
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.one(".choice label", "Camera").click()
    page.one(".blank", "Take a picture.")
    shoot = page.one("button", "Take the picture")
    page.wait(shoot.is_enabled)
    shoot.click()
    page.one(".answer")
    assert page.run("return document.querySelector('.plate img').naturalWidth") > 100


def test_the_error_of_a_drawn_image_is_taken_back_to_weights_and_pixels(page: Any) -> None:
    page.open("models/perceptron/gradients")
    page.one(".answer", "E = ")
    page.wait(lambda: len(page.all(".heat")) == 2)
    # O = the first three pixels; the sample is "boot", so t = (1, 0, 0) and E = 0.
    page.one(".answer", "E = 0.0000")
    page.one("#target").send_keys("shirt")
    page.one(".answer", "E = 1.0000")  # ½((1 - 0)² + (0 - 1)²)
    colours = """const [node] = [...document.querySelectorAll('.heat')].slice(arguments[0]);
        return [...node.getContext('2d').getImageData(0, 0, 2, 2).data]"""
    of_pixels = np.array(page.run(colours, 0)).reshape(4, 4)
    assert of_pixels[0, 0] > of_pixels[0, 2]  # ∂E/∂x is 1 there: orange
    assert of_pixels[2, 2] > of_pixels[2, 0]  # and -1 here: blue
    assert of_pixels[3, :3].max() == 0
    page.one("#unit").send_keys(Keys.END)
    of_weights = np.array(page.run(colours, 1)).reshape(4, 4)
    assert of_weights[0, 2] > of_weights[0, 0]  # δ of the third unit is -1, and only the first pixel is lit


def test_words_that_were_not_read_are_grey(page: Any) -> None:
    page.open("models/mood")
    page.one(".truth.right", "positive")
    page.write(page.one("#text"), "bad good a a a a a a film bad")
    page.one(".read mark.down")
    assert [word.text for word in page.all(".read .unread") if word.text.strip()] == ["bad", "good"]
    assert "did not read the grey words" in page.one(".words").text
    assert page.one(".quote b").text == "positive"


def test_the_answer_stays_in_sight_on_a_phone(page: Any) -> None:
    page.size(390, 700)
    page.open("models/classifier")
    page.one(".answer", "boot")
    page.one(".choice label", "Draw").click()
    page.run("window.scrollTo(0, 120)")
    shown = """const box = document.querySelector(arguments[0]).getBoundingClientRect();
        return Math.min(box.bottom, innerHeight) - Math.max(box.top, 0)"""
    canvas, answer = (page.run(shown, selector) for selector in ("canvas.draw", ".out"))
    page.size(0)
    assert canvas > 250
    assert answer > 60


def test_a_seed_out_of_range_is_refused_in_words(page: Any) -> None:
    page.open("models/painter/interpolate")
    page.wait(lambda: len(page.all(".way img")) == 9)
    page.write(page.one("#seed-from"), "-5" + Keys.TAB)
    page.one(".blank", "The seed must be a whole number from 0 to 4,294,967,295.")
    page.write(page.one("#seed-from"), "5" + Keys.TAB)
    page.wait(lambda: len(page.all(".way img")) == 9)


def test_the_answer_follows_the_typing_and_shows_which_words_decided_it(page: Any) -> None:
    page.open("models/mood")
    page.one(".truth.right", "positive")
    text = page.one("#text")
    page.write(text, "")
    for word in ("a ", "bad ", "film"):
        text.send_keys(word)
    page.one(".answer", "negative")
    assert not page.all(".truth")
    assert page.one("mark.down", "bad").get_attribute("title") == "−38.1 points"
    assert "bad" in page.one(".moved", "bad").text
    text.send_keys(" good good")
    page.one(".answer", "positive")
    page.wait(lambda: len(page.all(".read mark.up")) == 2)
    page.write(text, " ")
    page.one(".hint", "Write something")
    assert not page.all(".answer, .read, .code:not([hidden])")


def test_generated_images_follow_the_seed_and_the_count(page: Any) -> None:
    page.open("models/painter/generate")

    def sources() -> list[str]:
        return list(page.sources(".grid img"))

    first = page.wait(lambda: sources() if len(sources()) == 16 else None)
    page.one("button", "Roll").click()
    page.wait(lambda: len(sources()) == 16 and sources() != first)
    seed = page.one("#seed")
    page.write(seed, "0" + Keys.TAB)
    page.wait(lambda: sources() == first)
    page.one("#n").send_keys(Keys.ARROW_LEFT)
    page.wait(lambda: sources() == first[:15])
    page.write(seed, "-1" + Keys.TAB)
    page.one(".blank", "The seed must be a whole number from 0 to 4,294,967,295.")


def test_sliders_draw_the_image_of_a_code(page: Any) -> None:
    page.open("models/autoencoder/explore")
    large = lambda: pixels(page.wait(lambda: page.sources(".large img"))[0])  # noqa: E731
    page.wait(lambda: large().tolist() == [[255, 0], [0, 0]])  # it starts at the first sample
    page.all(".samples .sample")[1].click()
    page.wait(lambda: large().tolist() == [[0, 255], [0, 0]])
    page.one("button", "Zero").click()
    page.wait(lambda: not large().any())
    page.one("#z4").send_keys(Keys.ARROW_RIGHT * 20)
    page.wait(lambda: large().tolist() == [[0, 0], [0, 51]])
    assert [pixels(source)[1, 1] for source in page.sources(".grid img")] == [0, 0, 0, 0, 255, 255, 255]


def test_the_way_between_two_images_is_drawn(page: Any) -> None:
    page.open("models/autoencoder/interpolate")
    page.wait(lambda: len(page.all(".way img")) == 9)
    ends = page.all("fieldset.end")
    ends[1].find_elements("css selector", ".sample")[1].click()
    last = lambda: pixels(page.sources(".way img")[-1]).tolist()  # noqa: E731
    page.wait(lambda: last() == [[0, 255], [0, 0]])
    middle = pixels(page.wait(lambda: page.sources(".large img"))[0])
    assert middle[0].tolist() == [127, 127]
    page.one("#way").send_keys(Keys.END)
    assert pixels(page.wait(lambda: page.sources(".large img"))[0]).tolist() == [[0, 255], [0, 0]]
    page.one("#steps").send_keys(Keys.ARROW_LEFT)
    page.wait(lambda: len(page.all(".way img")) == 8)


def test_two_seeds_are_interpolated_where_images_have_no_code(page: Any) -> None:
    page.open("models/painter/interpolate")
    page.wait(lambda: len(page.all(".way img")) == 9)
    before = page.sources(".way img")[0]
    seed = page.one("#seed-from")
    page.write(seed, "99" + Keys.TAB)
    page.wait(lambda: page.sources(".way img")[0] != before)


def test_a_mask_lies_over_its_image_with_its_overlap_and_the_opacity_chosen(page: Any) -> None:
    page.open("models/threshold")
    layer = page.one(".stage .layer")
    assert [row.text.split() for row in page.all(".legend li")] == [["background", "50.0", "%"], ["light", "50.0", "%"]]
    assert "66.7 %" in page.one(".figures", "light").text  # half of the truth is missing: 8 columns of 12
    before = float(layer.value_of_css_property("opacity"))
    page.one("#opacity").send_keys(Keys.ARROW_LEFT * 20)
    assert float(layer.value_of_css_property("opacity")) < before
    colour = """const context = document.querySelector('.layer').getContext('2d');
        return [...context.getImageData(arguments[0], 3, 1, 1).data]"""
    assert page.run(colour, 3) == [0, 0, 0, 0]
    assert page.run(colour, 12)[3] == 255
    assert page.run(colour, 5)[3] == 0
    page.one(".choice label", "Difference").click()
    page.one(".legend li", "Only in the truth")
    assert page.run(colour, 5)[3] == 255
    assert page.run(colour, 12)[3] == 0
    assert page.one("button", "Download the mask").is_enabled()


def test_an_image_is_filtered(page: Any) -> None:
    page.open("models/filters")

    def shown(*wanted: list[list[int]]) -> bool:
        sources = page.sources(".pair img")
        return len(sources) == 3 and [pixels(source).tolist() for source in sources[1:]] == list(wanted)

    page.wait(lambda: shown([[128, 0], [0, 0]], [[0, 255], [255, 255]]))
    assert [caption.text for caption in page.all(".pair figcaption")] == ["Sent", "half", "negative"]
    page.all(".sample")[2].click()
    page.wait(lambda: shown([[0, 0], [128, 0]], [[255, 255], [0, 255]]))


def test_an_image_is_reconstructed(page: Any) -> None:
    page.open("models/autoencoder")

    def copies(wanted: list[list[int]]) -> bool:
        """Whether the second picture is this one; while the answer is drawn anew there may be none."""
        sources = page.sources(".pair img")
        return len(sources) == 2 and pixels(sources[1]).tolist() == wanted

    page.wait(lambda: copies([[255, 0], [0, 0]]))
    page.all(".sample")[2].click()
    page.wait(lambda: copies([[0, 0], [255, 0]]))
    assert [item.text for item in page.all(".numbers .value")] == ["0.0", "0.0", "1.0", "0.0"]


def test_a_number_is_answered_with_a_number(page: Any) -> None:
    page.open("models/half_plus_two")
    page.one(".answer", "2.5")
    x = page.one("#x0")
    page.write(x, "")
    page.one(".hint", "Every field must hold a number.")
    page.write(x, "-7")
    page.one(".answer", "-1.5")
    page.one("svg.chart")


def test_a_row_of_the_test_set_is_answered_beside_its_truth(page: Any) -> None:
    page.open("models/half_plus_two")
    page.one(".field", "size")
    page.one(".answer", "2.5 euros")
    page.one(".sure", "rent")
    page.one(".note", "floor area; 1 to 6 m² in training")
    page.one(".truth", "Truth: 2.5 euros")
    page.one("button", "Row 2").click()
    page.one(".answer", "5")
    page.one(".truth", "Truth: 4")
    page.write(page.one("#x0"), "5")
    page.one(".answer", "4.5")
    assert not page.all(".truth, .note.off")
    page.write(page.one("#x0"), "9")
    page.one(".note.off", "1 to 6 m²")  # what the model never saw is said, and asked all the same
    page.one(".answer", "6.5 euros")


def test_numbers_are_classified_with_labels_of_ones_own(page: Any) -> None:
    page.open("models/flowers")
    page.one(".answer", "setosa")  # the first of equals
    page.write(page.one("#x2"), "4")
    page.one(".answer", "virginica")
    assert [row.text for row in page.all(".bars .label")] == ["virginica", "setosa", "versicolor"]
    page.write(page.one("#x0"), "")
    page.one(".blank", "Every field must hold a number.")


def test_every_number_of_an_answer_is_shown(page: Any) -> None:
    page.open("models/triple")
    page.one(".several")
    page.write(page.one("#x0"), "5")
    page.wait(lambda: [number.text for number in page.all(".several b")] == ["5", "10", "15"])
    assert len(page.all("svg.chart .line")) == 3


def test_any_signature_is_tried_in_json(page: Any) -> None:
    page.open("models/columns")  # no task is known of it, so this is its first view
    assert [label.text for label in page.wait(lambda: page.all(".field label"))] == [
        "age float32 [?, 1]",
        "rooms int64 [?, 1]",
    ]
    page.one(".output", "price")
    page.write(page.all("textarea")[0], "[[1.5]]")
    page.write(page.all("textarea")[1], "[[40]]")
    page.wait(lambda: [output.text for output in page.all(".output pre")] == ["[\n [80]\n]", "[\n [41.5]\n]"])
    page.write(page.all("textarea")[1], "[[4")
    page.one(".blank", "rooms: got text that is not JSON")
    page.forgiven.append("422")
    page.write(page.all("textarea")[1], "[[4.5]]")
    alert = page.one(".result [role=alert]", "expected int64 [?, 1]").text
    assert "\n" not in alert
    page.write(page.all("textarea")[1], '{"shape": [2, 1], "fill": 3}')
    page.write(page.all("textarea")[0], "[[1], [2]]")
    page.one(".output pre", "[5]")


def test_every_signature_shows_every_output(page: Any) -> None:
    page.open("models/classifier/try")
    page.wait(lambda: len(page.all(".output")) == 4)
    page.one(".choice label", "serving_bytes").click()
    page.one(".field label", "image_bytes string [?]")
    page.wait(
        lambda: (
            [each.text.split()[0] for each in page.all(".output h3")]
            == ["class_id", "label", "logits", "probabilities"]
        )
    )
    page.one(".output pre", "boot")  # the first sample
    assert page.one(".output .bars .label").text == "boot"
    page.forgiven.append("422")
    page.one(".in .choice label", "classify").click()
    page.one(".result [role=alert]")  # a text is no tf.Example


def test_a_descent_starts_where_the_picture_is_clicked(page: Any) -> None:
    page.open("models/bowl")
    page.one(".sure", "From (3, 1) to (0, 0), where the function is 0, in 1 step.")
    before = page.sources(".contours")
    page.one(".contours").click()  # its middle
    page.one(".sure", "From (0, 0")  # and perhaps half a pixel
    page.wait(lambda: page.sources(".contours") != before)
    page.write(page.one("#start-y"), "-2")
    page.one(".sure", "From (0, −2)")

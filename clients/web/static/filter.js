// Panel: what each filter of a model makes of an image.

import { dataUrl } from "./api.js";
import { Panel } from "./panel.js";
import { el } from "./dom.js";
import { imageRequest, plate } from "./parts.js";
import { isSmall, picker } from "./picker.js";
import { image as imageCode, literal } from "./snippets.js";

export function filter(model, samples) {
  const panel = new Panel(model, { tall: true });
  const small = isSmall(model);
  const onimage = (image) => panel.ask({
    verb: "filter", ...imageRequest(image), stream: image.live,
    draw: ({ results: [{ filtered }] }) => [
      el("div.pair", {}, plate(image.url, "The image that was sent", "Sent", small),
        ...filtered.map(({ name, image: data }) => plate(dataUrl(data), `The image after ${name}`, name, small))),
      el("p.hint", {}, "Each pixel is a sum over its 3×3 neighbourhood, weighted by the filter’s kernel. A convolutional network learns such kernels by itself."),
    ],
    say: ({ results: [{ filtered }] }) => `Filtered: ${filtered.map(({ name }) => name).join(", ")}`,
    code: () => imageCode(model.name, "filter", image.source, model.signatures.serving_bytes && "serving_bytes", (given) => [
      `for name, filtered in client.filter(${literal(model.name)}, ${given}).items():`, "    print(name, filtered.shape)"]),
  });
  return panel.frame(picker(model, samples, { canDraw: model.image?.channels === 1 && small, onimage, onempty: (words) => panel.clear(words), onerror: (error) => panel.fail(error) }));
}

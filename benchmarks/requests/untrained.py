"""Export a network with untrained weights at its full size: speed does not depend on the weights.

python -m benchmarks.requests.untrained NAME REPOSITORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from ladle.training.quiet import without_stderr


def main() -> None:
    name, repository = sys.argv[1], Path(sys.argv[2])
    with without_stderr():
        import keras  # noqa: F401 (TensorFlow writes many lines to stderr at its first import)
    from ladle.training.export.export import Run, export
    from ladle.training.export.inputs import parity_inputs, samples
    from ladle.training.loop import devices
    from ladle.training.run import request

    devices.start()
    network = request.get(name)
    # Generated images have the size of handwritten digits unless they are asked for in another. Networks that come with
    # weights for photographs have no other size.
    shape = request.SHAPE if network.config.data == "photographs" else ()
    overrides = {side: getattr(network.config, side) for side in shape}
    prepared = request.load(request.compose(network, overrides=overrides, synthetic=True))
    model = network.build(prepared.config)
    source = {**prepared.dataset.provenance.as_dict(), "splits": prepared.dataset.sizes()}
    version = export(
        network,
        model,
        prepared.config,
        prepared.assets,
        Run(source, {}, epochs=0, training_seconds=0.0, machine=devices.machine()),
        repository=repository,
        parity_inputs=parity_inputs(network, model, prepared),
        samples=samples(prepared),
    )
    print(version)


if __name__ == "__main__":
    main()

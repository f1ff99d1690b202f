"""The command line, one file per command; nothing heavy is imported before it is needed."""

from latbench.cli import interrupt  # first of all: it arms Ctrl-C
from latbench.cli.group import LazyGroup

__all__ = ["COMMANDS", "interrupt", "main"]

#: Command -> the module that holds it, and its line in `latbench --help`.
COMMANDS = {
    "devices": ("latbench.cli.devices", "List the device catalogue and what is attached."),
    "space": ("latbench.cli.space", "Look at search spaces."),
    "arch": ("latbench.cli.arch", "Look at architectures."),
    "export": ("latbench.cli.export", "Write ops or a network as TFLite, ONNX and TorchScript."),
    "profile": ("latbench.cli.profile", "Time every op of a search space on a device."),
    "build-lut": ("latbench.cli.build_lut", "Build a LUT from what was profiled."),
    "estimate": ("latbench.cli.estimate", "Model a LUT from what others published."),
    "show": ("latbench.cli.show", "Show a LUT's entries."),
    "predict": ("latbench.cli.predict", "Predict the latency of an architecture from a LUT."),
    "validate": ("latbench.cli.validate", "Time other networks, and compare with a LUT."),
    "drift": ("latbench.cli.drift", "Compare two LUTs: what became slower?"),
    "report": ("latbench.cli.report", "Show LUTs, a run and a search as one HTML file."),
    "runner": ("latbench.cli.runner", "Build the runner for phones, and install its engines."),
    "measure": ("latbench.cli.measure", "Time one model file or architecture on a device."),
}

main = LazyGroup(
    name="latbench",
    commands_at=COMMANDS,
    help="Build latency lookup tables for ConvNets on your own device.\n\n"
    "Start with: latbench profile, then latbench build-lut.",
)

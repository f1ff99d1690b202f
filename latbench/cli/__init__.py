"""The command line: one module per command, imported when the command is called."""

from latbench.cli import interrupt  # first: it handles Ctrl-C during the imports that follow
from latbench.cli.group import LazyGroup

__all__ = ["COMMANDS", "interrupt", "main"]

#: Command -> its module, and its line in `latbench --help`.
COMMANDS = {
    "devices": ("latbench.cli.devices", "List the device catalogue and the attached devices."),
    "space": ("latbench.cli.space", "List, show and check search spaces."),
    "arch": ("latbench.cli.arch", "Show architectures."),
    "export": ("latbench.cli.export", "Export ops or a network as model files."),
    "profile": ("latbench.cli.profile", "Time every op of a search space on a device."),
    "build-lut": ("latbench.cli.build_lut", "Build a LUT from a profile."),
    "estimate": ("latbench.cli.estimate", "Estimate a LUT from published latencies."),
    "import": ("latbench.cli.import_table", "Make a LUT of a table in another format."),
    "show": ("latbench.cli.show", "Show a LUT's entries."),
    "predict": ("latbench.cli.predict", "Predict the latency of an architecture from a LUT."),
    "validate": (
        "latbench.cli.validate",
        "Time networks that a LUT was not built from, and compare.",
    ),
    "drift": ("latbench.cli.drift", "Compare two LUTs: what became slower or faster?"),
    "report": ("latbench.cli.report", "Write LUTs, a run and a search as one HTML report."),
    "runner": ("latbench.cli.runner", "Build and install the runner for phones."),
    "measure": ("latbench.cli.measure", "Time one model file or architecture on a device."),
}

main = LazyGroup(
    name="latbench",
    commands_at=COMMANDS,
    help="Build latency lookup tables for ConvNets on your own device.\n\n"
    "Start with: latbench profile, then latbench build-lut.",
)

"""From a trained supernet to networks: derivation, judging, and timing of finalists."""

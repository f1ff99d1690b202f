"""From a trained supernet to networks: derivation, ranking, and verification of the finalists."""

"""Lightning callbacks: curation at epoch boundaries, its report, throughput, checkpoints."""

"""The reward model: backbone, encoding, packing, losses and the LightningModule."""

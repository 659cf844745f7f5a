"""Data: sources, shards, index, ledger, epoch plan and the LightningDataModule."""

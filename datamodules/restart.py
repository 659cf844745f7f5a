"""Where a resumed run goes on: at the first batch whose effect is not in the checkpoint.

Lightning (2.6) counts well enough, but two places need help:

- A checkpoint of an epoch's last batch, written in `on_train_batch_end`, has it as processed, not completed. Resuming
  from it, Lightning counts the epoch as done without `on_train_epoch_end` (pytorch-lightning#19617, #19815), and a
  round of curation is silently lost. Written a moment later the batch is completed and all is well; so it is completed
  here.
- A checkpoint within an accumulation lacks the gradients gathered so far. The step is begun again.
"""

from __future__ import annotations

from lightning.pytorch import Trainer


def first_batch(trainer: Trainer) -> int:
    """The number of the micro-batch to go on with in the current epoch; mends Lightning's counters so that they agree.

    To be called once, after the checkpoint is restored and before the loop starts.
    """
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    epochs, batches = fit.epoch_progress.total, loop.batch_progress.total
    if not (fit.restarting and epochs.started == epochs.ready and epochs.processed == epochs.started - 1):
        return 0  # a fresh run, or a checkpoint between two epochs
    done = loop.batch_progress.current.processed  # not `ready`: a batch that an exception cut short is not done
    in_batch_end = batches.processed == batches.ready and batches.completed == batches.processed - 1
    if in_batch_end and loop.batch_progress.is_last_batch:
        loop.batch_progress.increment_completed()
        loop._batches_that_stepped += 1  # the loggers' step; an epoch's last batch always steps the optimizer
        return done
    if (surplus := done % trainer.accumulate_grad_batches) and not loop.batch_progress.is_last_batch:
        for progress in (loop.batch_progress.total, loop.batch_progress.current):
            progress.ready -= surplus
            progress.started -= surplus
            progress.processed -= surplus
            progress.completed -= surplus
        loop._batches_that_stepped -= (
            in_batch_end  # Lightning will add one for the step before, which is counted already
        )
        return done - surplus
    return done

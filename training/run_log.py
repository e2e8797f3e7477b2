"""What a run tells of itself by epoch: lines, history, learning curves, TensorBoard."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import utils

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CURVES_EVERY = 10
"""Epochs between two drawings of the learning curves."""


class RunLog:
    """Files that accompany a run; one that can't be written is told, and costs no training.

    Parameters
    ----------
    folder : the run's
    epochs : epochs to train for
    done : by network, epochs done before; a resumed run's TensorBoard logs are cut there
    writes : off in processes that write no files
    """

    def __init__(
        self, folder: Path, epochs: int, done: dict[str, int], writes: bool = True
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.epochs, self.writes = folder, epochs, writes
        self.writers: dict[str, SummaryWriter] = {}
        if not writes:
            return
        for name, epoch in done.items():
            place = folder / "tensorboard" / name
            with utils.by_product(place):
                # its thread may miss that it is closed, and then waits for the next flush
                self.writers[name] = SummaryWriter(place, purge_step=epoch + 1, flush_secs=5)

    def record(self, scores: dict[str, dict[str, float]], seconds: float) -> None:
        """Print and log the networks' lines of history for an epoch that took `seconds`."""
        for name, line in scores.items():
            print(
                f"{name} epoch {line['epoch']:3d}/{self.epochs}: "
                f"train loss {line['train_loss']:.4f} accuracy {line['train_accuracy']:.2%}  "
                f"validation loss {line['validation_loss']:.4f} "
                f"accuracy {line['validation_accuracy']:.2%}  {seconds:.1f} s",
                flush=True,
            )
            with utils.by_product(self.folder / "tensorboard"):
                for key, value in line.items():
                    if key != "epoch" and name in self.writers:
                        self.writers[name].add_scalar(key, value, line["epoch"])

    def write_history(self, history: dict[str, list[dict[str, float]]], finished: bool) -> None:
        """Write the history of all networks as JSON, and now and then the learning curves."""
        if not self.writes:
            return
        import visualization

        with utils.by_product(self.folder / "history.json"):
            utils.write_json(self.folder / "history.json", history)
        if finished or max(map(len, history.values())) % CURVES_EVERY == 0:
            figure = self.folder / "learning_curves.png"
            with utils.by_product(figure):
                visualization.plot_learning_curves(history, figure)

    def close(self) -> None:
        """Write what TensorBoard's threads still hold."""
        for writer in self.writers.values():
            with utils.by_product(self.folder / "tensorboard"), contextlib.closing(writer):
                writer.flush()

"""From a split's records to batches, in threads, by number.

The global batch at step s is a function of (seed, s) and the files alone: the same on one host and on many, in one go
and resumed. Nothing is shuffled through a buffer and no iterator state is saved. Example p of the endless training
stream belongs to epoch p // n and is record permutation_epoch(p % n), and what is random in it (clip, crop, ...) is
seeded by (seed, epoch, record).

An example may also need something of another video, such as a sound that is not its own. Then a second record is read
for it, its partner, which is a function of the example's seed and record alone, as all else. A partner from the same
batch would have cost no reading, but would depend on the batch size, on what pads an evaluation, and on who is its
neighbour.

A thread of Python does one example at a time: it reads a record by number and calls one traced TensorFlow function on
it, which parses, samples and decodes without holding the interpreter's lock. Sound of another rate is resampled between
the first two, by a Python function, which holds the lock meanwhile. So whatever is wrong with a record is an error of
that record alone. An error of storage is none of the record's: it is tried again (`storage.py`), and ends the run where
that does not help, for other batches than those of (seed, s) are never made of it.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from cmav.data import resampling, schema
from cmav.data.files import file_of
from cmav.data.index import DAMAGE, DatasetError, SplitIndex

_BAD_RECORDS_TO_NAME = 5

# Views of a record that one thread makes. Eight that overlap as those of the paper have a quarter of their frames to
# decode; with more there would be less for the other threads to do.
_VIEWS_AT_ONCE = 8

# Kinds of random draws, so that no two kinds share a seed.
_PERMUTATION, _TRAINING, _REPLACEMENT, _EVALUATION, _WANTS_PARTNER, _PARTNER = range(6)

# The record to read, the seed (int32 [2]) of what is random in the example, and which of the record's views it is.
Candidate = tuple[int, np.ndarray, int]
# Fills some rows of a batch.
Work = Callable[[dict[str, np.ndarray]], None]


class TooManyBadRecordsError(DatasetError):
    """More of a split's records are damaged than `config.data.max_bad_fraction` allows."""


@dataclasses.dataclass
class Loader:
    """Batches of a split. Each is a dict of arrays: what `make_example` returns, stacked, and

    | key    | dtype          | meaning                                               |
    | ------ | -------------- | ----------------------------------------------------- |
    | `mask` | float32 [rows] | 1: an example; 0: padding or a damaged record, zeros  |

    Texts are object arrays of bytes. A damaged record is named in the log and counted in `bad_records`.

    Attributes:
      index: of the split.
      records: numbers of the records to use.
      max_bad_fraction: of the split's records; with more damaged ones than that, iterating raises.
      num_threads: examples made at the same time; 0: one for each CPU core.
      prefetch_batches: batches under way beside the one that the consumer has.
      sample_rate: of the audio that `make_example` gets, Hz; None: as it is stored.
      partner_share: probability that an example is made with a partner: 0 to 1.
      lend: TensorFlow: what an example takes of its partner, a tensor of fixed shape, from the partner's record and a
        seed, int32 [2]. `make_example` then gets it as `lent`.
      make_views: TensorFlow: what `make_example` makes of views of a record, int32 [V], stacked, without seeds. Where
        there is one, evaluations make neighbouring views with it.
    """

    index: SplitIndex
    make_example: Callable[[dict[str, tf.Tensor], tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
    records: np.ndarray
    max_bad_fraction: float
    num_threads: int = 0
    prefetch_batches: int = 2
    sample_rate: int | None = None
    partner_share: float = 0.0
    lend: Callable[[dict[str, tf.Tensor], tf.Tensor], tf.Tensor] | None = None
    make_views: Callable[[dict[str, tf.Tensor], tf.Tensor], dict[str, tf.Tensor]] | None = None

    @classmethod
    def of(
        cls, index: SplitIndex, make_example: Callable, records: np.ndarray, data: ConfigDict, **more: Any
    ) -> "Loader":
        """With the limits, threads and sample rate of `config.data`; `more`: `partner_share`, `lend`, `make_views`."""
        return cls(
            *(index, make_example, records, data.max_bad_fraction),
            *(data.num_threads, data.prefetch_batches, data.sample_rate),
            **more,
        )

    def __post_init__(self):
        if not len(self.records):
            raise DatasetError(f"no records of split {self.index.split!r} in {self.index.folder!r} were chosen.")
        self.index.check_shards()
        self._bad: dict[int, str] = {}
        self._lock = threading.Lock()
        self._traced_lend = self._trace_lend() if self.partner_share > 0 else None
        self._traced = self._trace(with_partner=False) if self.partner_share < 1 else None
        self._traced_with_partner = self._trace(with_partner=True) if self.partner_share > 0 else None
        self._traced_views = self._trace_views() if self.make_views else None

    @property
    def bad_records(self) -> set[int]:
        """Numbers of the damaged records that were come across so far."""
        with self._lock:
            return set(self._bad)

    def train_batches(
        self, *, seed: int, first_example: int, batch_size: int, num_batches: int, rows: slice | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields batches of the endless training stream, every epoch in an order of its own.

        In the place of a damaged record comes another, drawn by (seed, position in the stream). Close the iterator, or
        let go of it, to end its threads.

        Args:
          seed: of everything random.
          first_example: how many examples of the global stream came before: 0, or where to resume.
          batch_size: of the global batch.
          num_batches: how many to yield.
          rows: which rows of each global batch to load; None: all. Only their records are read.

        Raises:
          TooManyBadRecordsError: when iterating, past `max_bad_fraction`.
          StorageError: when iterating, where storage does not answer.
        """
        numbers = range(batch_size)[rows or slice(None)]

        def batch(number: int) -> list[Work]:
            first = first_example + number * batch_size
            candidates = [self._training_candidates(seed, first + row) for row in numbers]
            return [functools.partial(self._fill, row=row, candidates=of) for row, of in enumerate(candidates)]

        return self._batches(len(numbers), map(batch, range(num_batches)))

    def eval_batches(
        self, *, seed: int, batch_size: int, repeats: int = 1, rows: slice | None = None
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields every record `repeats` times, in order; the last batch is padded. Always the same examples.

        What is random in an example depends on (seed, record, repeat) alone. A damaged record is a masked row. All
        processes get the same number of batches.

        Args:
          seed: of everything random.
          batch_size: of the global batch.
          repeats: examples made of each record, its views 0 to repeats - 1.
          rows: which rows of each global batch to load; None: all.

        Raises:
          TooManyBadRecordsError: when iterating, past `max_bad_fraction`.
          StorageError: when iterating, where storage does not answer.
        """
        numbers = range(batch_size)[rows or slice(None)]
        num_examples = len(self.records) * repeats

        def batch(first: int) -> list[Work]:
            there = [first + row for row in numbers if first + row < num_examples]
            views = [(int(self.records[example // repeats]), example % repeats) for example in there]
            if self._traced_views:
                return [functools.partial(self._fill_views, **part) for part in _neighbours(views)]
            candidates = [(record, _seed(_EVALUATION, seed, record, view), view) for record, view in views]
            return [functools.partial(self._fill, row=row, candidates=[one]) for row, one in enumerate(candidates)]

        return self._batches(len(numbers), map(batch, range(0, num_examples, batch_size)))

    def _training_candidates(self, seed: int, position: int) -> Iterator[Candidate]:
        """The record at a position of the training stream, and those to take in its place should it be damaged."""
        count = len(self.records)
        epoch, place = divmod(position, count)
        permutation = _seed(_PERMUTATION, seed, epoch)
        place = tf.random.experimental.index_shuffle(np.int64(place), permutation, np.int64(count - 1))
        record = int(self.records[int(place)])
        yield record, _seed(_TRAINING, seed, epoch, record), 0
        for attempt in itertools.count():
            replacement = _seed(_REPLACEMENT, seed, position, attempt)
            yield int(self.records[int(replacement.view(np.uint64)[0] % count)]), replacement, 0

    def _batches(self, num_rows: int, batches: Iterable[list[Work]]) -> Iterator[dict[str, np.ndarray]]:
        """Makes batches, several under way, and yields them in order."""
        under_way: collections.deque[tuple[dict, list[concurrent.futures.Future]]] = collections.deque()
        threads = concurrent.futures.ThreadPoolExecutor(self.num_threads or num_cpus(), "cmav-loader")
        try:
            for works in batches:
                batch = self._empty_batch(num_rows)
                under_way.append((batch, [threads.submit(work, batch) for work in works]))
                if len(under_way) > self.prefetch_batches:
                    yield _finished(*under_way.popleft())
            while under_way:
                yield _finished(*under_way.popleft())
        finally:
            threads.shutdown(cancel_futures=True)

    def _fill(self, batch: dict[str, np.ndarray], row: int, candidates: Iterable[Candidate]) -> None:
        """Writes the first candidate that is not damaged into a row of the batch."""
        for record, seed, view in candidates:
            try:
                example = self._example(record, seed, view)
            except DAMAGE as error:
                self._note_bad(record, error)
                continue
            for key, value in example.items():
                batch[key][row] = np.asarray(value)[()]  # A view; of a single text, the text itself.
            batch["mask"][row] = 1.0
            return

    def _fill_views(self, batch: dict[str, np.ndarray], rows: slice, record: int, views: list[int]) -> None:
        """Writes views of a record into rows of the batch, where the record is not damaged."""
        try:
            made = self._traced_views(_tensor(self.index.read(record)), tf.constant(views))
        except DAMAGE as error:
            self._note_bad(record, error)
            return
        for key, values in made.items():
            batch[key][rows] = np.asarray(values)
        batch["mask"][rows] = 1.0

    def _example(self, record: int, seed: np.ndarray, view: int) -> dict[str, tf.Tensor]:
        """Raises one of `DAMAGE` where the record is damaged, not where its partner is."""
        serialized = _tensor(self.index.read(record))
        given = (serialized, tf.constant(seed), tf.constant(view))
        if self._wants_partner(seed):
            return self._traced_with_partner(*given, self._borrow(record, serialized, seed))
        return self._traced(*given)

    def _wants_partner(self, seed: np.ndarray) -> bool:
        if not 0 < self.partner_share < 1:
            return self.partner_share > 0
        return int(_seed(_WANTS_PARTNER, *seed.tolist()).view(np.uint64)[0]) < self.partner_share * 2**64

    def _borrow(self, record: int, serialized: tf.Tensor, seed: np.ndarray) -> tf.Tensor:
        """What an example takes of its partner: of another video, the first in an order that is a function of the seed.

        Raises:
          One of `DAMAGE`, where the record itself has no id.
          DatasetError: where there is no record of another video that can be read.
        """
        video, count = _video_of(serialized), len(self.records)
        seed = _seed(_PARTNER, *seed.tolist())
        for place in range(count):
            place = tf.random.experimental.index_shuffle(np.int64(place), seed, np.int64(count - 1))
            partner = int(self.records[int(place)])
            if partner == record:
                continue
            try:
                other = _tensor(self.index.read(partner))
                if _video_of(other) != video:
                    return self._traced_lend(other, tf.constant(seed))
            except DAMAGE as error:
                self._note_bad(partner, error)
        raise DatasetError(
            f"{self.index.where(record)} needs audio of another video, and split {self.index.split!r} has no record of "
            "one that can be read."
        )

    def _note_bad(self, record: int, error: Exception) -> None:
        reason = self.index.reason(record, error)
        with self._lock:
            if record not in self._bad:
                self._bad[record] = reason
                logging.warning("Skipping a damaged record: %s", reason)
        self.check_damage(self.bad_records)

    def check_damage(self, bad_records: Collection[int]) -> None:
        """Checks the limit, `max_bad_fraction`, for records that are known to be damaged.

        The loader does so itself for those that it has come across. Where several processes load the rows of a batch,
        each comes across its own, and the limit is for all of them together.

        Raises:
          TooManyBadRecordsError: names some of them.
        """
        bad, total = len(bad_records), len(self.index)
        # With none left to take instead, training would look for one for ever.
        if bad <= self.max_bad_fraction * total and bad < len(self.records):
            return
        with self._lock:
            # First those whose reason is known here. The others' is in the log of the process that has read them.
            reasons = {
                **self._bad,
                **{record: self.index.where(record) for record in sorted(set(bad_records) - self._bad.keys())},
            }
        named = "\n".join(f"  {reason}" for reason in itertools.islice(reasons.values(), _BAD_RECORDS_TO_NAME))
        raise TooManyBadRecordsError(
            f"{bad} of the {total} records of split {self.index.split!r} in {self.index.folder!r} are damaged, more "
            f"than config.data.max_bad_fraction={self.max_bad_fraction:g} allows. The first of them:\n{named}\n"
            f"List them all with:{self.index.verify_command}\n"
            "then build the damaged shards again (delete them and repeat the build), or raise "
            "config.data.max_bad_fraction."
        )

    def _trace(self, *, with_partner: bool):
        """From a serialized record, a seed, a view and what is lent to an example, as one TensorFlow function."""
        signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32), tf.TensorSpec([], tf.int32)]
        if with_partner:
            lent = self._traced_lend.structured_outputs
            signature.append(tf.TensorSpec(lent.shape, lent.dtype))

        @tf.function(input_signature=signature, autograph=False)
        def example(serialized, seed, view, *lent):
            return self.make_example(self._parse(serialized), seed, view, **({"lent": lent[0]} if lent else {}))

        traced = example.get_concrete_function()
        for key, value in traced.structured_outputs.items():
            if not value.shape.is_fully_defined():
                raise ValueError(f"make_example must give tensors of fixed shapes; {key!r} has {value.shape}.")
        return traced

    def _trace_views(self):
        """From a serialized record and views, int32 [V], to their examples, as one TensorFlow function."""
        signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([None], tf.int32)]

        @tf.function(input_signature=signature, autograph=False)
        def examples(serialized, views):
            return self.make_views(self._parse(serialized), views)

        return examples.get_concrete_function()

    def _trace_lend(self):
        """From a partner's serialized record and a seed to what it lends, as one TensorFlow function."""
        signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)]

        @tf.function(input_signature=signature, autograph=False)
        def lend(serialized, seed):
            return self.lend(self._parse(serialized), seed)

        return lend.get_concrete_function()

    def _parse(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        record = schema.parse(serialized)
        return record if self.sample_rate is None else resampling.at_rate(record, self.sample_rate)

    def _empty_batch(self, num_rows: int) -> dict[str, np.ndarray]:
        """A batch of padding: zeros and empty texts."""
        batch = {"mask": np.zeros(num_rows, np.float32)}
        for key, value in (self._traced or self._traced_with_partner).structured_outputs.items():
            shape = (num_rows, *value.shape)
            batch[key] = np.full(shape, b"", object) if value.dtype == tf.string else np.zeros(shape, value.dtype.name)
        return batch


def make_loader(index: SplitIndex, task: Any, data: ConfigDict, *, train: bool) -> Loader:
    """Makes a `cmav.tasks.Task`'s examples from the records of a split that it can use, as `config.data` says."""
    make_example = functools.partial(task.make_example, train=train)
    share = task.partner_share(train=train)
    more = {"partner_share": share, "lend": task.lend} if share else {}
    if not train:
        more["make_views"] = task.make_views
    return Loader.of(index, make_example, task.usable_records(index, train=train), data, **more)


def _neighbours(views: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Parts of a batch, of one record each: its rows, the record, and its views. From (record, view) of each row."""
    row = 0
    for record, of_record in itertools.groupby(views, key=lambda view: view[0]):
        of_record = [view for _, view in of_record]
        for first in range(0, len(of_record), _VIEWS_AT_ONCE):
            part = of_record[first : first + _VIEWS_AT_ONCE]
            yield {"rows": slice(row, row + len(part)), "record": record, "views": part}
            row += len(part)


def _finished(batch: dict[str, np.ndarray], filled: list[concurrent.futures.Future]) -> dict[str, np.ndarray]:
    for row in filled:
        row.result()
    return batch


def _seed(*key: int) -> np.ndarray:
    """A seed, int32 [2], that is a function of the key alone, well mixed."""
    # Modulo, because a SeedSequence refuses the negative seeds that a user may give.
    return np.random.SeedSequence([part % 2**64 for part in key]).generate_state(2).view(np.int32)


def _tensor(serialized: bytes) -> tf.Tensor:
    """A record as a tensor, string []. `tf.constant` would copy the bytes a second time."""
    return tf.constant(np.array(serialized, object))


def _video_of(serialized: tf.Tensor) -> str:
    return file_of(schema.clip_id_of(serialized).numpy().decode(errors="replace"))


def num_cpus() -> int:
    """The cores that this process may use; fewer than the machine's where a scheduler such as Slurm binds it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
